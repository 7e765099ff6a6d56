"""Which text is certain: lawful bytes in every character set that hospitals use, and those that are none."""

import pytest
from pydicom.charset import convert_encodings, encode_string
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from sarco.pacs.text import charsets_of, doubtful_texts, is_certain

LATIN, UTF8 = "M\u00fcller".encode("latin-1"), "M\u00fcller".encode()
CERTAIN = [
    (b"P001", ("",)),
    (b"P001", ("ISO_IR 192",)),
    (b"P001", ("no such set",)),
    (b"", ("",)),
    (UTF8, ("ISO_IR 192",)),
    (LATIN, ("ISO_IR 100",)),
    (LATIN, ("ISO 2022 IR 100", "ISO 2022 IR 87")),
    ("\u0141\u0105cki".encode("iso8859-2"), ("ISO_IR 101",)),
    ("\u0418\u0432\u0430\u043d".encode("iso8859-5"), ("ISO_IR 144",)),
    ("\u0393\u03b9\u03ac\u03bd\u03bd\u03b7\u03c2".encode("iso8859-7"), ("ISO_IR 126",)),
    ("\u674e".encode("gb18030"), ("GB18030",)),
    ("\u674e".encode("gbk"), ("GBK",)),
    ("\uff94\uff8f\uff80\uff9e".encode("shift_jis"), ("ISO_IR 13",)),
]
DOUBTFUL = [
    (LATIN, ("ISO_IR 192",)),  # a replacement character, as for every other umlaut
    (b"\xff\xfe", ("ISO_IR 192",)),
    (UTF8, ("",)),
    (LATIN, ("",)),
    (UTF8, ("ISO_IR 6",)),
    (UTF8, ("ISO_IR 100",)),  # two letters for one
    ("\u0141\u0105cki".encode(), ("ISO_IR 100",)),
    (b"M\x93ller", ("ISO_IR 100",)),  # Windows, not Latin
    (b"P\x8501", ("ISO_IR 101",)),
    (LATIN, ("latin1",)),
    (LATIN, ("", "ISO 2022 IR 87")),
    (LATIN, ("ISO_IR 100", "unknown")),
    (b"\xa7\x41\xff", ("GB18030",)),
]


@pytest.mark.parametrize(("content", "charsets"), CERTAIN)
def test_lawful_text_is_certain(content: bytes, charsets: tuple[str, ...]) -> None:
    """Catches a patient who gets no DICOM results because of a name or ID that is written rightly."""
    assert is_certain(content, charsets)


@pytest.mark.parametrize(
    ("text", "charsets"),
    [
        ("Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", ("", "ISO 2022 IR 87")),
        ("\u5c71\u75301", ("ISO 2022 IR 13", "ISO 2022 IR 87")),
        ("Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9", ("", "ISO 2022 IR 149")),
    ],
)
def test_escapes_of_iso_2022_are_lawful(text: str, charsets: tuple[str, ...]) -> None:
    """Catches Japanese, Korean or Chinese names that count as damaged because of their escape sequences."""
    assert is_certain(encode_string(text, convert_encodings(list(charsets))), charsets)


@pytest.mark.parametrize(("content", "charsets"), DOUBTFUL)
@pytest.mark.filterwarnings("ignore")  # pydicom's remarks about what is wrong on purpose
def test_unlawful_text_is_doubtful(content: bytes, charsets: tuple[str, ...]) -> None:
    """Catches letters that become others, so that two people become one."""
    assert not is_certain(content, charsets)


def test_items_have_the_character_set_around_them() -> None:
    """Catches an item of a sequence that is looked at as if nobody had declared anything, and numbers as text."""
    outer = Dataset()
    outer.SpecificCharacterSet = ["ISO_IR 100"]
    item = Dataset()
    for tag, kind in ((0x00100020, "LO"), (0x00100010, "UN"), (0x00101020, "DS"), (0x00091001, "UN")):
        item[Tag(tag)] = RawDataElement(Tag(tag), kind, 2, b"\xc3\xbc", 0, False, True)
    assert charsets_of(Dataset()) == ("",)
    assert charsets_of(item, charsets_of(outer)) == ("ISO_IR 100",)
    assert sorted(doubtful_texts(item, charsets_of(item, charsets_of(outer)))) == [0x00100010, 0x00100020]
    item.SpecificCharacterSet = "ISO_IR 192"
    assert doubtful_texts(item, charsets_of(item, ("",))) == []


@pytest.mark.parametrize(
    "charset", ["ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 144", "ISO_IR 126", "ISO_IR 148"]
)
def test_utf8_under_a_charset_of_one_byte_is_not_certain(charset: str) -> None:
    """Catches another patient's ID, made of two wrong letters for each letter with an accent."""
    assert not is_certain("M\u00fcller1".encode(), (charset,))
