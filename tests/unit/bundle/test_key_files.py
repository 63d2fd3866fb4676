"""Key files as people have them: made once, readable by their owner, and refused with a reason."""

import stat
from pathlib import Path

import pytest

from sidecar.bundle.acceptance import accept, accept_unverified, claimed_signature, sealed_part
from sidecar.bundle.codec import encode
from sidecar.bundle.keys import MAX_KEY_FILE_BYTES, create_key_files, read_private_key_file, read_trust
from sidecar.bundle.signature import SignedBy, sign
from sidecar.errors import BundleError, InputError, OperationError, Reason


def test_a_pair_signs_and_verifies(tmp_path: Path, bundle) -> None:
    public_path, name = create_key_files(tmp_path / "ops")
    signed = sign(encode(bundle), read_private_key_file(tmp_path / "ops"))
    trust = read_trust([public_path], unsigned=False)
    assert list(trust.keys) == [name]
    assert encode(accept(signed, trust)) == encode(bundle)
    assert claimed_signature(signed) == SignedBy(name)


def test_only_the_owner_can_read_the_private_key(tmp_path: Path) -> None:
    create_key_files(tmp_path / "ops")
    assert stat.S_IMODE((tmp_path / "ops").stat().st_mode) == 0o600


@pytest.mark.parametrize("existing", ["ops", "ops.pub"])
def test_a_key_is_never_written_over(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(InputError, match="never written over"):
        create_key_files(tmp_path / "ops")
    assert (tmp_path / existing).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="cannot write"):
        create_key_files(tmp_path / "none" / "ops")


def test_a_path_without_a_file_name_is_told() -> None:
    with pytest.raises(InputError, match="file name"):
        create_key_files(Path("/"))


def test_key_files_that_are_none_are_told(tmp_path: Path) -> None:
    public_path, _ = create_key_files(tmp_path / "ops")
    with pytest.raises(InputError, match="no public key"):
        read_trust([tmp_path / "ops"], unsigned=True)
    with pytest.raises(InputError, match="no unencrypted private key"):
        read_private_key_file(public_path)
    with pytest.raises(InputError, match="cannot read the key"):
        read_private_key_file(tmp_path / "none")
    (tmp_path / "large").write_bytes(b"#" * (MAX_KEY_FILE_BYTES + 1))
    with pytest.raises(InputError, match="larger than"):
        read_private_key_file(tmp_path / "large")


def test_a_signed_bundle_can_be_looked_at_without_a_key(tmp_path: Path, bundle) -> None:
    create_key_files(tmp_path / "ops")
    sealed = encode(bundle)
    signed = sign(sealed, read_private_key_file(tmp_path / "ops"))
    assert encode(accept_unverified(signed)) == sealed
    assert sealed_part(signed) == sealed_part(sealed) == sealed
    assert claimed_signature(sealed) is None


def test_an_unknown_kind_of_signature_cannot_be_looked_at(tmp_path: Path, bundle) -> None:
    create_key_files(tmp_path / "ops")
    sealed = encode(bundle)
    signed = sign(sealed, read_private_key_file(tmp_path / "ops"))
    with pytest.raises(BundleError) as caught:
        accept_unverified(sealed + b"RSA-2048" + signed[len(sealed) + 8 :])
    assert caught.value.reason is Reason.BUNDLE_SIGNATURE
