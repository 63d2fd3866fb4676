"""Every file in bad/ is refused with one clear line. Each file is named by its defect, and its first line
states where and how the complaint reads; for files that cannot carry such a line the table below does."""

import gzip
import pathlib

import pytest

from sidecar.errors import InputError
from sidecar.properties.reader import properties_in, read_properties
from sidecar.tensors import ModelSignature

BAD = pathlib.Path(__file__).parent / "bad"

WITHOUT_FIRST_LINE = {
    "damaged.vnnlib.gz": "cannot be read: ",
    "not_gzip.vnnlib.gz": "cannot be read: Not a gzipped file",
    "not_utf_8.vnnlib": "byte 127 is not UTF-8 text; save the file as UTF-8",
    "not_utf_8.yaml": "byte 8 is not UTF-8 text; save the file as UTF-8",
    "truncated.vnnlib.gz": "cannot be read: Compressed file ended before the end-of-stream marker was reached",
    "unknown_ending.json": "a property file's name ends in one of .yaml, .yml, .vnnlib, .vnnlib.gz",
}


def _expected(path: pathlib.Path) -> str:
    if path.name in WITHOUT_FIRST_LINE:
        return WITHOUT_FIRST_LINE[path.name]
    first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    return first_line.partition("expect: ")[2]


@pytest.mark.parametrize("name", sorted(path.name for path in BAD.iterdir()))
def test_bad_file_is_refused_in_one_line_with_its_place(name: str, signature: ModelSignature) -> None:
    path = BAD / name
    with pytest.raises(InputError) as caught:
        read_properties(path, signature)
    message, expected = str(caught.value), _expected(path)
    assert expected
    assert message.startswith(f"{path}:")
    assert message.removeprefix(f"{path}:").lstrip().startswith(expected)
    assert "\n" not in message


def test_missing_file_is_refused(tmp_path: pathlib.Path, signature: ModelSignature) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        read_properties(tmp_path / "nowhere.yaml", signature)


def test_folder_is_refused(tmp_path: pathlib.Path, signature: ModelSignature) -> None:
    (tmp_path / "folder.vnnlib").mkdir()
    with pytest.raises(InputError, match="no such file"):
        read_properties(tmp_path / "folder.vnnlib", signature)


@pytest.mark.parametrize("name", ["large.yaml", "large.vnnlib"])
def test_file_beyond_the_size_limit_is_refused(name: str, tmp_path: pathlib.Path, signature: ModelSignature) -> None:
    (tmp_path / name).write_bytes(b" " * (5 << 20))
    with pytest.raises(InputError, match=r"larger than \d+ bytes"):
        read_properties(tmp_path / name, signature)


def test_compressed_file_that_unpacks_beyond_the_size_limit_is_refused(
    tmp_path: pathlib.Path, signature: ModelSignature
) -> None:
    (tmp_path / "bomb.vnnlib.gz").write_bytes(gzip.compress(b" " * (32 << 20)))
    with pytest.raises(InputError, match="larger than 4194304 bytes"):
        read_properties(tmp_path / "bomb.vnnlib.gz", signature)


def test_file_name_that_leaves_no_id_is_refused(tmp_path: pathlib.Path, signature: ModelSignature) -> None:
    (tmp_path / ".vnnlib").write_text("")
    with pytest.raises(InputError, match="becomes the property's id"):
        read_properties(tmp_path / ".vnnlib", signature)


def test_a_file_kept_in_a_bundle_under_a_name_that_nobody_reads_is_refused(signature: ModelSignature) -> None:
    with pytest.raises(InputError, match=r"properties\.json: no property file that is understood, by its name"):
        properties_in("properties.json", b"{}", signature)
