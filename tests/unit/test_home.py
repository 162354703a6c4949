import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.errors import HomeInUse, HomeUnusable
from mesh.home import Home, HomeLock, is_held

HOLDER = """
import sys
from pathlib import Path
from mesh.home import Home, HomeLock
with HomeLock(Home(Path(sys.argv[1])), "mesh up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "node")
    home.create()
    return home


@pytest.fixture
def holder(home):
    command = [sys.executable, "-c", HOLDER, str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_is_made_is_for_its_owner_only(home):
    for directory in (home.root, home.broker, home.credentials, home.logs):
        assert directory.stat().st_mode & 0o777 == 0o700
    home.create()


def test_a_second_process_is_refused_and_told_who_holds_it(home, holder):
    with pytest.raises(HomeInUse) as caught, HomeLock(home, "mesh rebuild"):
        pass
    assert f"`mesh up` (process {holder.pid})" in caught.value.what
    assert str(home.root) in caught.value.what
    assert caught.value.remedy
    assert holder.poll() is None


def test_being_refused_does_not_disturb_the_holder(home, holder):
    for _ in range(3):
        with pytest.raises(HomeInUse, match=f"process {holder.pid}"), HomeLock(home, "x"):
            pass


def test_the_kernel_takes_it_back_from_a_killed_holder(home, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with HomeLock(home, "mesh up"):
        assert str(os.getpid()) in home.lock_file.read_text()


def test_a_child_of_the_holder_does_not_hold_it(home):
    with HomeLock(home, "mesh up"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with HomeLock(home, "mesh up"):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_after_use_it_is_free_and_names_nobody(home):
    with HomeLock(home, "mesh up"):
        pass
    assert home.lock_file.read_text() == ""
    with HomeLock(home, "mesh up"):
        pass


def test_looking_who_holds_it_changes_nothing(home, holder):
    written = home.lock_file.read_text()
    assert is_held(home)
    assert home.lock_file.read_text() == written
    holder.kill()
    holder.wait()
    assert not is_held(home)
    assert home.lock_file.read_text() == written


def test_a_home_where_no_node_has_run_is_held_by_nobody(home):
    assert not is_held(home)
    assert not home.lock_file.exists()


def test_a_holder_that_cannot_be_read_is_still_a_holder(home, holder):
    home.lock_file.write_text("garbage")
    with pytest.raises(HomeInUse, match="another process"), HomeLock(home, "x"):
        pass


def test_a_home_that_is_not_there_is_named(tmp_path):
    with pytest.raises(HomeUnusable, match="nowhere"), HomeLock(Home(tmp_path / "nowhere"), "x"):
        pass


def test_a_file_in_place_of_the_home_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable, match="file") as caught:
        Home(tmp_path / "file").create()
    assert caught.value.remedy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told(tmp_path):
    (tmp_path / "lock").symlink_to("/dev/full")
    with pytest.raises(HomeUnusable, match=r"No space left|Invalid argument"), HomeLock(Home(tmp_path), "x"):
        pass
