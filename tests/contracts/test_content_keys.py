"""What every store of keys promises, asked of the one in memory and of the files."""

import stat
from contextlib import suppress
from pathlib import Path

import pytest

from mesh.experts.content_keys import ContentKey, ContentKeys, MemoryContentKeys
from mesh.experts.content_keys_files import RECORD_BYTES, FileContentKeys

DAY = 86_400.0
T0 = 1_790_000_000.0


def a_key(request: str, *, caller: str = "local", at: float = T0, fill: int = 7) -> ContentKey:
    return ContentKey(request=request, caller=caller, at=at, key=bytes([fill]) * 32)


def opened_below(directory: Path) -> list[Path]:
    """What this process has open there; what else it has open may be closed by the collector at any time."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the list itself
            found.append(descriptor.readlink())
    return [path for path in found if path.is_relative_to(directory)]


class ContentKeysContract:
    """One subclass per adapter."""

    @pytest.fixture
    def keys(self, tmp_path: Path) -> ContentKeys:
        raise NotImplementedError

    def test_what_is_kept_is_found_and_nothing_else(self, keys: ContentKeys) -> None:
        for key in (a_key("one"), a_key("two", fill=8), a_key("one", caller="other", fill=9, at=T0 + DAY)):
            keys.keep(key)
        assert sorted(key.key[0] for key in keys.find("one")) == [7, 9]
        assert keys.find("two") == [a_key("two", fill=8)]
        assert keys.find("on") == keys.find("onet") == []

    def test_what_is_erased_is_gone_and_said_to_be_until_that_is_settled(self, keys: ContentKeys) -> None:
        keys.keep(a_key("one"))
        keys.keep(a_key("two"))
        assert keys.erase(["one", "none"]) == {"one"}
        assert keys.find("one") == []
        assert keys.find("two") == [a_key("two")]
        assert keys.erase(["one"]) == set()
        assert keys.erased() == {"one"}
        keys.settle(["one"])
        assert keys.erased() == set()

    def test_keys_are_selected_by_age_and_by_caller(self, keys: ContentKeys) -> None:
        for day, caller in enumerate(("ann", "bob", "ann")):
            keys.keep(a_key(f"request-{day}", caller=caller, at=T0 + day * DAY))
        assert set(keys.select(before=T0 + 1.5 * DAY)) == {"request-0", "request-1"}
        assert set(keys.select(caller="ann")) == {"request-0", "request-2"}
        assert set(keys.select(before=T0 + DAY, caller="bob")) == set()
        assert set(keys.select()) == {"request-0", "request-1", "request-2"}
        keys.erase(["request-0"])
        assert set(keys.select(caller="ann")) == {"request-2"}

    def test_a_long_caller_and_names_of_any_script_survive(self, keys: ContentKeys) -> None:
        keys.keep(a_key("one", caller="ü" * 200))
        assert len(keys.find("one")) == 1
        assert list(keys.select(caller="ü" * 200)) == ["one"]


class TestMemory(ContentKeysContract):
    @pytest.fixture
    def keys(self, tmp_path: Path) -> ContentKeys:
        return MemoryContentKeys()


class TestFiles(ContentKeysContract):
    @pytest.fixture
    def keys(self, tmp_path: Path) -> FileContentKeys:
        return FileContentKeys(tmp_path / "keys")

    def test_they_survive_the_process_and_are_the_owners_alone(self, keys: FileContentKeys, tmp_path: Path) -> None:
        keys.keep(a_key("one"))
        assert FileContentKeys(tmp_path / "keys").find("one") == [a_key("one")]
        (file,) = (tmp_path / "keys").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_the_bytes_of_an_erased_key_are_nowhere(self, keys: FileContentKeys, tmp_path: Path) -> None:
        keys.keep(a_key("one", fill=0xAB))
        keys.keep(a_key("two", fill=0xCD))
        keys.erase(["one"])
        (file,) = (tmp_path / "keys").iterdir()
        assert b"\xab" * 4 not in file.read_bytes()
        assert b"\xcd" * 32 in file.read_bytes()

    def test_half_a_record_is_cut_off_and_a_damaged_one_passed_over(
        self, keys: FileContentKeys, tmp_path: Path
    ) -> None:
        for name in ("one", "two"):
            keys.keep(a_key(name))
        keys.close()
        (file,) = (tmp_path / "keys").iterdir()
        data = bytearray(file.read_bytes())
        data[290] ^= 1
        file.write_bytes(data + b"K half a record")
        again = FileContentKeys(tmp_path / "keys")
        assert (again.find("one"), again.find("two")) == ([], [a_key("two")])
        again.keep(a_key("three"))
        assert file.stat().st_size == 3 * RECORD_BYTES
        assert again.find("three") == [a_key("three")]

    def test_a_past_day_without_a_key_is_removed(self, keys: FileContentKeys, tmp_path: Path) -> None:
        for day in range(3):
            keys.keep(a_key(f"request-{day}", at=T0 + day * DAY))
        keys.erase(["request-0", "request-2"])
        assert len(list((tmp_path / "keys").iterdir())) == 3
        keys.settle(["request-0", "request-2"])
        left = sorted(file.stem for file in (tmp_path / "keys").iterdir())
        assert len(left) == 2
        assert set(keys.select()) == {"request-1"}

    def test_without_a_directory_there_are_no_keys(self, keys: FileContentKeys) -> None:
        assert keys.find("one") == []
        assert keys.erase(["one"]) == set()
        assert list(keys.select()) == []

    def test_a_key_that_cannot_be_written_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("a file where the directory should be")
        with pytest.raises(OSError, match="keys"):
            FileContentKeys(tmp_path / "keys").keep(a_key("one"))

    def test_an_id_that_has_no_room_is_refused(self, keys: FileContentKeys) -> None:
        with pytest.raises(ValueError, match="65 bytes; the limit is 64"):
            keys.keep(a_key("x" * 65))

    def test_no_descriptor_is_left_open(self, tmp_path: Path) -> None:
        keys = FileContentKeys(tmp_path / "keys")
        for day in range(5):
            keys.keep(a_key("one", at=T0 + day * DAY))
        keys.erase(["one"])
        assert opened_below(tmp_path)
        keys.close()
        assert not opened_below(tmp_path)
