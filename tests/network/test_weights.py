"""ImageNet weights from a server, a slow one, half of one, a login page, and none at all."""

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from efficientnet_pytorch import EfficientNet

from sarco.core.errors import InputError
from sarco.core.training_options import NetworkOptions
from sarco.network import weights
from sarco.network.segmentation import SegmentationNetwork, build_network
from sarco.network.weights import load_encoder_weights

NAME = "efficientnet-b0-355c32eb.pth"


@pytest.fixture(scope="module")
def published() -> bytes:
    """A file as efficientnet-pytorch publishes them."""
    torch.manual_seed(1)
    file = io.BytesIO()
    torch.save(EfficientNet.from_name("efficientnet-b0").state_dict(), file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, no proxy, and half a second's patience."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(weights, "CONNECT_TIMEOUT_S", 0.5)


@pytest.fixture
def network() -> SegmentationNetwork:
    """Random weights."""
    return build_network(NetworkOptions(pretrained="no"), 1, 2)


Serve = Callable[[Callable[[BaseHTTPRequestHandler], None]], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server that answers as it is told to, and makes the weights' address its own."""
    started: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(OSError):  # whoever asked is gone
                    answer(self)

            def log_message(self, *args: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.block_on_close = False
        started.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(weights.url_map, "efficientnet-b0", f"http://127.0.0.1:{server.server_port}/{NAME}")

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def kept(tmp_path: Path) -> list[Path]:
    """What lies in the cache."""
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def send(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, length: int | None = None) -> None:
    """An answer with its length."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def test_imagenet_weights_are_adopted_and_kept(
    tmp_path: Path, network: SegmentationNetwork, serve: Serve, published: bytes
) -> None:
    """Catches a download that is not used, one that is not told, and one that is done again each time."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        send(handler, published)

    serve(answer)
    lines: list[str] = []
    for _ in range(2):
        assert load_encoder_weights(network, NetworkOptions(pretrained="auto"), lines.append) == "imagenet"
    assert asked == [f"/{NAME}"] and len(lines) == 1 and "fetching" in lines[0]
    state = torch.load(io.BytesIO(published), weights_only=True)
    assert torch.equal(network.encoder.net.state_dict()["_bn0.weight"], state["_bn0.weight"])
    assert [path.read_bytes() for path in kept(tmp_path)] == [published]


def half_with_length(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    send(handler, published[: len(published) // 2], length=len(published))


def half_without_length(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(published[: len(published) // 2])


def login_page(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    send(handler, b"<html><body>Please log in to the guest network</body></html>")


def nothing(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    send(handler, b"")


def not_found(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    send(handler, b"gone", status=404)


def proxy_wants_a_password(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    send(handler, b"", status=407)


def round_and_round(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def stops_half_way(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    half_with_length(handler, published)
    handler.wfile.flush()
    time.sleep(3)


def drips(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(published)))
    handler.end_headers()
    for place in range(100):
        handler.wfile.write(published[place : place + 1])
        handler.wfile.flush()
        time.sleep(0.1)


def never_answers(handler: BaseHTTPRequestHandler, published: bytes) -> None:
    time.sleep(3)


@pytest.mark.parametrize(
    "answer",
    [
        half_with_length, half_without_length, login_page, nothing, not_found, proxy_wants_a_password, round_and_round,
        stops_half_way, drips, never_answers,
    ],
)  # fmt: skip
def test_what_is_not_whole_is_never_taken(
    tmp_path: Path,
    network: SegmentationNetwork,
    serve: Serve,
    published: bytes,
    answer: Callable[[BaseHTTPRequestHandler, bytes], None],
) -> None:
    """Catches a training that waits for a proxy for ever, or keeps half a file, with which every later one fails."""
    serve(lambda handler: answer(handler, published))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    began = time.monotonic()
    lines: list[str] = []
    assert load_encoder_weights(network, NetworkOptions(pretrained="auto"), lines.append) == "random"
    assert "can't be fetched" in lines[-1] and "--pretrained=FILE" in lines[-1]
    with pytest.raises(InputError, match="--pretrained=no") as caught:
        load_encoder_weights(network, NetworkOptions(pretrained="imagenet"))
    assert "--pretrained=FILE" in str(caught.value) and "\n" not in str(caught.value)
    assert time.monotonic() - began < 10
    assert kept(tmp_path) == []
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_no_network_at_all(network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a hospital without internet that cannot train at all: nobody listens, or no such name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/{NAME}", f"http://weights.invalid/{NAME}"):
        monkeypatch.setitem(weights.url_map, "efficientnet-b0", url)
        assert load_encoder_weights(network, NetworkOptions(pretrained="auto")) == "random"


def test_proxy_that_never_answers(network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a wait without end for a proxy that takes the call and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(InputError, match="timed out"):
            load_encoder_weights(network, NetworkOptions(pretrained="imagenet"))
        assert time.monotonic() - began < 5


def test_damaged_file_in_the_cache_is_fetched_again(
    tmp_path: Path, network: SegmentationNetwork, serve: Serve, published: bytes
) -> None:
    """Catches half a file of an earlier download that stands in the way for ever."""
    old = tmp_path / "hub" / "checkpoints" / NAME
    old.parent.mkdir(parents=True)
    old.write_bytes(published[:1000])
    serve(lambda handler: send(handler, published))
    assert load_encoder_weights(network, NetworkOptions(pretrained="imagenet")) == "imagenet"
    assert old.read_bytes() == published


def test_weights_are_used_where_none_can_be_kept(
    tmp_path: Path, network: SegmentationNetwork, serve: Serve, published: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a process without a home that cannot train, or that makes a folder called "~"."""
    serve(lambda handler: send(handler, published))
    monkeypatch.chdir(tmp_path)
    for home in ("~/nobody", str(tmp_path / "file" / "below")):
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(torch.hub, "_hub_dir", home)
        assert load_encoder_weights(network, NetworkOptions(pretrained="imagenet")) == "imagenet"
    assert [path.name for path in kept(tmp_path)] == ["file"] and not (tmp_path / "~").exists()
