"""Who the patient is: exact joins, units told apart, values that cannot be true, and where each comes from."""

import re
import warnings
from pathlib import Path

import pytest
from dicom_parts import data_set
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from sarco.core.errors import InputError
from sarco.measurement.patients import Identity, Patient, identity_of, merge_patients, patient_from_dicom, read_patients


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """A patients file."""
    (folder / "patients.csv").write_bytes(text.encode(encoding))
    return folder / "patients.csv"


# --- the join --------------------------------------------------------------------------------------------------------


def test_keys_match_exactly(tmp_path: Path) -> None:
    """Catches rows joined by substring, by number or by case: 1 is not 10, 01 or 1.0, and p1 is not P1."""
    table = read_patients(write(tmp_path, "PatientID,sex\n10,F\n01,F\n1.0,F\nP1,F\n21,F\n1,M\n"))
    assert table.find(Identity("1", "")).sex == "M"
    assert table.find(Identity("10", "")).sex == "F"
    for almost in ("0", "2", "p1", "001", "10.0", "P"):
        with pytest.raises(InputError):
            table.find(Identity(almost, ""))


def test_an_empty_patient_id_matches_nothing(tmp_path: Path) -> None:
    """Catches anonymous scans that all get the first row without a key."""
    table = read_patients(write(tmp_path, "PatientID,StudyInstanceUID,sex\n,1.2.3,F\nA,,M\n"))
    with pytest.raises(InputError, match="empty"):
        table.find(Identity("", ""))
    assert table.find(Identity("", "1.2.3")).sex == "F"


def test_a_row_of_a_study_speaks_of_that_study_alone(tmp_path: Path) -> None:
    """Catches the weight of another year."""
    text = "StudyInstanceUID,PatientID,weight\n1.2.1,A,80\n1.2.2,A,60\n1.2.9,B,70\n,B,75\n"
    table = read_patients(write(tmp_path, text))
    assert table.find(Identity("A", "1.2.2")).weight_kg == 60
    assert table.find(Identity("B", "1.2.9")).weight_kg == 70
    assert table.find(Identity("B", "1.2.10")).weight_kg == 75
    with pytest.raises(InputError, match=r"StudyInstanceUID 1\.2\.3"):
        table.find(Identity("A", "1.2.3"))


def test_a_row_that_names_two_patients_is_an_error(tmp_path: Path) -> None:
    """Catches a study UID pasted into the row of somebody else."""
    table = read_patients(write(tmp_path, "StudyInstanceUID,PatientID,weight\n1.2.1,A,80\n"))
    with pytest.raises(InputError, match="the row of its study names another PatientID"):
        table.find(Identity("B", "1.2.1"))


def test_all_misses_are_listed(tmp_path: Path) -> None:
    """Catches a run that ends at the first patient without a row, after hours."""
    table = read_patients(write(tmp_path, "PatientID,sex\nA,F\n"))
    with pytest.raises(InputError, match="no row for 2 of the series") as caught:
        table.check([Identity("A", "1"), Identity("B", "2", "scans/b"), Identity("C", "3"), Identity("B", "2")])
    assert all(part in str(caught.value) for part in ("scans/b (StudyInstanceUID 2)", "StudyInstanceUID 3"))
    assert "StudyInstanceUID 1" not in str(caught.value)


def test_all_duplicates_are_listed(tmp_path: Path) -> None:
    """Catches the last of two rows that wins in silence."""
    with pytest.raises(InputError, match="lines 2 and 5, 4 and 6 are of one patient"):
        read_patients(write(tmp_path, "PatientID,sex\nA,F\nB,F\nC,M\nA,M\nC,M\n"))


def test_messages_never_show_a_patient_id(tmp_path: Path) -> None:
    """Catches a PatientID in a line that ends up in the log of a cluster: rows twice, missing, or contradicting."""
    secret = "GEHEIM-4711"
    for text, identity in (
        (f"PatientID,sex\n{secret},F\n{secret},F\n", None),
        ("PatientID,sex\nA,F\n", Identity(secret, "1.2.3")),
        (f"StudyInstanceUID,PatientID,sex\n1.2.3,{secret},F\n", Identity("B", "1.2.3")),
        ("StudyInstanceUID,PatientID,sex\n1.2.3,A,F\n", Identity(secret, "1.2.3")),
    ):
        with pytest.raises(InputError) as caught:
            table = read_patients(write(tmp_path, text))
            table.find(identity or Identity("A", ""))
        assert secret not in str(caught.value) and len(str(caught.value).splitlines()) == 1


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("PatientID,Sex,Height,Weight_kg,Age\nA,f,172,70.5,64\n", "utf-8"),
        ("PatientID;sex;height;weight;age_years\r\nA;Female;1,72;70,5;64\r\n", "utf-8-sig"),
        ("\tage\tPatient ID\tsex\theight_m\tweight\n1\t64\t A \tF\t1.72\t70.5\n\n\n", "utf-8"),
        ('patient_id,note,sex,height_cm,weight,age\nA,"tall, thin\nthanks",F,172,70.5,064Y\n', "utf-8"),
        ("PATIENT-ID,Sex,Height (cm),Weight [kg],Age (years)\nA,f ,172,70.5,64\n", "utf-8"),
        ("PatientID;sex;height;weight;age\nA;F;1,72;70,5;64;;\n", "utf-8-sig"),
        ("PatientID,sex,height,weight,age,,\nA,F,1.720,070.5,64.0,,\n", "utf-8"),
        ("PatientID;gender;sex;height_in;height_m;weight;age\nA;f;F;68;1,72;70,5;64\n", "utf-8"),
        ("PatientID,sex,height,weight,age\rA,F,+1.72,70.5,64\r", "utf-8"),
        ("PatientID,sex,height,weight,age\nA,F,\uff11\uff17\uff12,70.5,64\n", "utf-8"),
    ],
)
def test_tables_as_people_write_them(tmp_path: Path, text: str, encoding: str) -> None:
    """Catches semicolons, decimal commas, byte order marks, quotes, blank lines and order of columns."""
    patient = read_patients(write(tmp_path, text, encoding)).find(Identity("A", ""))
    assert (patient.sex, patient.height_m, patient.weight_kg, patient.age_years) == ("F", 1.72, 70.5, 64)
    assert patient.bmi == pytest.approx(70.5 / 1.72**2)
    assert all("patients.csv line" in source for source in patient.source.values())


def test_empty_cells_are_unknown(tmp_path: Path) -> None:
    """Catches a height of 0 where nobody measured."""
    patient = read_patients(write(tmp_path, "PatientID,sex,height,weight\nA,,,\n")).find(Identity("A", ""))
    assert patient == Patient()
    assert patient.bmi is None


@pytest.mark.parametrize(
    ("text", "metres"), [("1.72", 1.72), ("172", 1.72), ("101", 1.01), ("2.5", 2.5), ("172.5", 1.725)]
)
def test_metres_and_centimetres_are_told_apart(tmp_path: Path, text: str, metres: float) -> None:
    """Catches an index that is wrong by 10,000."""
    table = read_patients(write(tmp_path, f"PatientID,height\nA,{text}\n"))
    assert table.find(Identity("A", "")).height_m == pytest.approx(metres)


@pytest.mark.parametrize(
    ("columns", "cells", "part"),
    [
        ("height", "68", "height is 68"),  # inches
        ("height", "5.9", "height is 5.9"),  # feet
        ("height", "17.2", "height is 17.2"),
        ("height", "1720", "height is 1720"),
        ("height", "0", "height is 0"),
        ("height", "-1.7", "height is -1.7"),
        ("height", "nan", "no number"),
        ("height", "tall", "no number"),
        ("height_cm", "1.72", "no height in cm"),
        ("height_m", "172", "no height in m"),
        ("weight", "7000", "weight is 7000"),
        ("weight", "inf", "no number"),
        ("sex", "1", "not F or M"),
        ("sex", "W", "not F or M"),
        ("age", "190", "age is 190"),
        ("height,weight", "1.10,300", "BMI of 247.9"),
        ("height_m,height_cm", "1.72,182", "two different heights"),
        ("height", "1_72", "height is no number"),
        ("height", "1e2", "height is no number"),
        ("height", "1.72 m", "height is no number; write it as digits without a unit"),
        ("height", "5'7\"", "height is no number"),
        ("height", "\u00b2", "height is no number"),
        ("height", "1", "as if cut off at a decimal comma"),
        ("height_m", "2", "as if cut off at a decimal comma"),
        ("weight", "7_0", "weight is no number"),
        ("weight", "154 lb", "weight is no number"),
        ("weight", "1.07.5", "weight is no number"),
        ("age", "6_4", "age is no number"),
        ("sex", "M/F", "not F or M"),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path: Path, columns: str, cells: str, part: str) -> None:
    """Catches units and slips of the pen that would give an index all the same; names the line, not the person."""
    path = write(tmp_path, f"PatientID,name,{columns}\nA,Doe^Jane,{cells}\n")
    with pytest.raises(InputError, match=re.escape(part)) as caught:
        read_patients(path)
    assert "line 2" in str(caught.value)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("column", ["sex", "height", "weight", "age"])
@pytest.mark.parametrize("cell", ["Doe^Jane", "1950-01-01", "01.02.1950", "19500102", "GEHEIM-4711"])
def test_a_cell_in_the_wrong_column_is_not_shown(tmp_path: Path, column: str, cell: str) -> None:
    """Catches a name, a birth date or an ID in a log because columns of a table were shifted."""
    with pytest.raises(InputError, match=f"line 2: {column} is") as caught:
        read_patients(write(tmp_path, f"PatientID,{column}\nA,{cell}\n"))
    assert not any(part in str(caught.value) for part in (cell, "Doe", "1950", "1.95", "4711"))


def test_all_faulty_lines_are_listed(tmp_path: Path) -> None:
    """Catches a table that has to be corrected line by line."""
    with pytest.raises(InputError) as caught:
        read_patients(write(tmp_path, "PatientID,sex\nA,X\nB,F\n,M\nD,2\n"))
    assert all(f"line {line}:" in str(caught.value) for line in (2, 4, 5))
    assert "line 3:" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no column PatientID"),
        ("id,sex\nA,F\n", "no column PatientID"),
        ("PatientID,gender\nA,F\n", "none of the columns"),
        ("PatientID,sex,Patient Sex\nA,F,M\n", "two columns hold sex"),
        ("PatientID,sex\nA,F,1.72\n", "line 2 has"),
        ("PatientID,sex,height\nA,F,1,72\n", "line 2 has a cell beyond the last named column; quote cells"),
        ("PatientID,sex,height,\nA,F,1,72\n", "line 2 has a cell beyond the last named column; quote cells"),
        ("PatientID,sex\nA\n", "line 2 has 1 cells"),
        ("PatientID,sex,height_in\nA,F,68\n", "column 'height_in' is none that is read; make it"),
        ("PatientID,sex,Weight (lb)\nA,F,150\n", "column 'Weight (lb)' is none that is read"),
        ("PatientID,gender,height\nA,F,168\n", "column 'gender' is none that is read"),
        ("PatientID;Geschlecht;age\nA;F;64\n", "column 'Geschlecht' is none that is read"),
        ("PatientID;sex;Größe (cm)\nA;F;164\n", "column 'Größe (cm)' is none that is read"),
        ('PatientID,note,sex\nA,"tall,F\nB,x",M\n', "quote that ends on line 3 swallows whole lines"),
        ('PatientID,note,sex\nA,"tall,F\nB,x,M\nC,y",F\n', "quote that ends on line 4 swallows whole lines"),
        ('PatientID,sex,note\nA,F,"tall\nB,M,x\nC,F,y\n', "swallows whole lines"),
        ("PatientID,sex\n" + "A" * 140_000 + ",F\n", "line 2 is no CSV"),
    ],
)
def test_columns_that_are_missing_or_doubled(tmp_path: Path, text: str, part: str) -> None:
    """Catches a misspelt column whose values count as unknown."""
    with pytest.raises(InputError, match=re.escape(part)):
        read_patients(write(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Catches a traceback where the path is wrong or the table is a workbook."""
    with pytest.raises(InputError, match="cannot be read"):
        read_patients(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="UTF-8"):
        read_patients(write(tmp_path, "PatientID,sex\nÄ,F\n", "latin-1"))
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):  # Excel's "Unicode text"
        with pytest.raises(InputError, match="UTF-8"):
            read_patients(write(tmp_path, "PatientID\tsex\nA\tF\n", encoding))


# --- DICOM -----------------------------------------------------------------------------------------------------------


def test_what_dicom_says() -> None:
    """Catches tags overlooked, and values without their source."""
    patient = patient_from_dicom(data_set(PatientSex="M", PatientSize="1.80", PatientWeight="81", PatientAge="063Y"))
    assert (patient.sex, patient.height_m, patient.weight_kg, patient.age_years) == ("M", 1.8, 81, 63)
    assert patient.bmi == pytest.approx(25)
    assert patient.source == {
        "sex": "DICOM PatientSex", "height_m": "DICOM PatientSize", "weight_kg": "DICOM PatientWeight",
        "age_years": "DICOM PatientAge",
    }  # fmt: skip
    assert not patient.notes


def test_centimetres_in_dicom_are_recognised() -> None:
    """Catches a SMI of 0.005: PatientSize is in metres, and often is not."""
    patient = patient_from_dicom(data_set(PatientSize="180"))
    assert patient.height_m == 1.8
    assert "in cm" in patient.source["height_m"]


@pytest.mark.parametrize(
    "tags",
    [{"PatientSize": "0"}, {"PatientWeight": "0"}, {"PatientAge": "old"}, {"PatientSex": "X"}, {"PatientSize": "70"}],
)
def test_what_cannot_be_true_in_dicom_is_left_out(tags: dict[str, str]) -> None:
    """Catches zeros that a scanner fills in, and a scan refused for them."""
    patient = patient_from_dicom(data_set(**tags))
    assert (patient.sex, patient.height_m, patient.weight_kg, patient.age_years) == (None, None, None, None)
    assert len(patient.notes) == 1
    assert next(iter(tags)) in patient.notes[0]


def test_a_height_and_weight_that_do_not_go_together_are_left_out() -> None:
    """Catches pounds for kilograms, and swapped fields."""
    patient = patient_from_dicom(data_set(PatientSex="F", PatientSize="1.1", PatientWeight="180"))
    assert (patient.sex, patient.height_m, patient.weight_kg) == ("F", None, None)
    assert set(patient.source) == {"sex"}
    assert "BMI of 148.8" in patient.notes[0]


@pytest.mark.parametrize(("text", "years"), [("018M", 1.5), ("052W", 1.0), ("000D", 0.0), ("045Y", 45)])
def test_ages_in_other_units(text: str, years: float) -> None:
    """Catches an infant of 18 years."""
    assert patient_from_dicom(data_set(PatientAge=text)).age_years == pytest.approx(years, abs=0.01)


def test_other_sexes_have_no_cutoff_but_no_error_either() -> None:
    """Catches PatientSex O that becomes M or stops a run."""
    patient = patient_from_dicom(data_set(PatientSex="O"))
    assert patient.sex is None
    assert not patient.notes


def test_identity_is_taken_as_it_stands() -> None:
    """Catches a folder name or a UID in the place of an empty PatientID."""
    assert identity_of(data_set(PatientID=" 007 ", StudyInstanceUID="1.2.3")) == Identity("007", "1.2.3")
    assert identity_of(Dataset()) == Identity("", "")


# --- both ------------------------------------------------------------------------------------------------------------


def test_the_table_counts_and_dicom_fills_in() -> None:
    """Catches a source that is not that of the value."""
    table = Patient(sex="F", height_m=1.6, source={"sex": "line 2", "height_m": "line 2"})
    dicom = Patient(sex="F", height_m=1.61, weight_kg=64.0, source={"sex": "D", "height_m": "D", "weight_kg": "D"})
    merged = merge_patients(table, dicom)
    assert (merged.sex, merged.height_m, merged.weight_kg) == ("F", 1.6, 64.0)
    assert merged.source == {"sex": "line 2", "height_m": "line 2", "weight_kg": "D"}
    assert not merged.notes


def test_contradictions_are_noted() -> None:
    """Catches a row of another patient: sex and height differ from DICOM, and nobody hears of it."""
    table = Patient(sex="F", height_m=1.6, source={"sex": "line 2", "height_m": "line 2"})
    dicom = Patient(sex="M", height_m=1.8, source={"sex": "D", "height_m": "D"})
    merged = merge_patients(table, dicom)
    assert (merged.sex, merged.height_m) == ("F", 1.6)
    assert len(merged.notes) == 2
    assert "sex is F in line 2 but M in D" in merged.notes[0]


def test_a_weight_that_does_not_go_with_the_table_is_left_out() -> None:
    """Catches a BMI of two people."""
    merged = merge_patients(
        Patient(height_m=1.2, source={"height_m": "T"}), Patient(weight_kg=200.0, source={"weight_kg": "D"})
    )
    assert (merged.height_m, merged.weight_kg, merged.source) == (1.2, None, {"height_m": "T"})
    assert "BMI of 138.9" in merged.notes[0]


def test_a_file_holds_all_of_it() -> None:
    """Catches a BMI or a source missing in summary.json."""
    stored = Patient(sex="F", height_m=1.6, weight_kg=64.0, source={"sex": "x"}, notes=("n",)).to_builtins()
    assert stored == {
        "sex": "F", "height_m": 1.6, "weight_kg": 64.0, "age_years": None, "bmi": 25.0, "source": {"sex": "x"},
        "notes": ["n"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tag", "text", "name", "expected"),
    [
        ("PatientSize", b"1,62", "height_m", 1.62),
        ("PatientSize", b"162,5", "height_m", 1.625),
        ("PatientSize", b"1.62 m", "height_m", None),
        ("PatientSize", b"1.62\\1.62", "height_m", None),
        ("PatientSize", b"5'4\"", "height_m", None),
        ("PatientSize", b"1.62E+00", "height_m", 1.62),
        ("PatientSize", b"1_62", "height_m", None),
        ("PatientSize", b"2", "height_m", None),
        ("PatientSize", b"\xff\xfe", "height_m", None),
        ("PatientWeight", b"70,5", "weight_kg", 70.5),
        ("PatientWeight", b"70.5kg", "weight_kg", None),
        ("PatientWeight", b"1e400", "weight_kg", None),
        ("PatientAge", b"65", "age_years", 65),
        ("PatientAge", b"65Y\\066Y", "age_years", None),
        ("PatientSex", b"f", "sex", "F"),
        ("PatientSex", b"M\\F", "sex", None),
        ("PatientSex", b"weiblich", "sex", None),
    ],
)
def test_text_of_a_header_never_ends_the_reading(tag: str, text: bytes, name: str, expected: object) -> None:
    """Catches a traceback after the prediction because somebody typed a comma, a unit or two values into a tag."""
    dataset = Dataset()
    known = Tag(tag)
    dataset[known] = RawDataElement(known, dictionary_VR(known), len(text), text, 0, False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patient = patient_from_dicom(dataset)
    assert getattr(patient, name) == expected
    assert bool(patient.notes) == (expected is None)
    assert all("\n" not in note for note in patient.notes)
