"""Archives as they are: members, damage, names that lead out, and reading in any order."""

import io
import os
import random
import tarfile
import time
import zipfile

import numpy as np
import pytest

from episodes import InputError
from episodes.convert import archive
from episodes.convert.archive import list_archive
from episodes.convert.raw import RawFile, map_raw, read_raw
from episodes.convert.tree import DiskFolder, RawData, mount, mount_tar, walk
from tests.episodes.convert.raw_data import pack

CONTENT = {
    "top.txt": b"top",
    "a folder/with.dots/x 1.jpg": bytes(range(256)) * 50,
    "a folder/with.dots/empty": b"",
    "a folder/" + "long " * 40 + "/name.png": b"long name",
    "schräg/ü.txt": "ü".encode(),
    ".hidden/file": b"system",
}
NAMES = ("a.tar", "a.tgz", "b.TAR.GZ", "c.zip")


def packed(folder, name, content=CONTENT):
    path = folder / name
    path.write_bytes(pack(name.lower(), content))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_members(name, tmp_path):
    path = packed(tmp_path, name)
    files = list_archive(path)
    assert {file.name: read_raw(file) for file in files} == CONTENT
    top = mount(path)
    assert (top.folders, top.files) == (["a folder", "schräg"], ["top.txt"])
    below = top.folder("a folder").folder("with.dots")
    assert below.files == ["empty", "x 1.jpg"]
    assert read_raw(below.file("x 1.jpg")) == CONTENT["a folder/with.dots/x 1.jpg"]
    assert top.folder("a fold") is None and top.file("a folder") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_any_order_across_marks(name, tmp_path, monkeypatch):
    """Members far apart, read back and forth: more marks than one in gzipped files."""
    monkeypatch.setattr(archive, "CLOSEST_MARKS", 1 << 16)
    rng = np.random.default_rng(0)
    content = {f"{k}.bin": rng.bytes(40_000 + 999 * k) for k in range(40)}
    files = list_archive(packed(tmp_path, name, content))
    random.Random(1).shuffle(files)
    assert all(read_raw(file) == content[file.name] for file in files)


def test_a_tar_in_a_tar(tmp_path):
    inner = pack(".tar", {"n1_1.JPEG": b"one", "n1_2.JPEG": b"two"})
    outer = mount(packed(tmp_path, "outer.tar", {"n1.tar": inner, "n2.tar": inner[:700]}))
    assert read_raw(mount_tar(outer.file("n1.tar")).file("n1_2.JPEG")) == b"two"
    with pytest.raises(InputError, match=r"outer\.tar, member n2\.tar: is not a whole tar"):
        mount_tar(outer.file("n2.tar"))
    outer = mount(packed(tmp_path, "outer.tgz", {"n1.tar": inner}))
    with pytest.raises(InputError, match="an archive inside a compressed archive"):
        mount_tar(outer.file("n1.tar"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("left", [0.2, 0.6, 0.95])
def test_half_downloaded(name, left, tmp_path):
    rng = np.random.default_rng(0)
    path = packed(tmp_path, name, {f"{k}.bin": rng.bytes(3000) for k in range(60)})
    os.truncate(path, int(path.stat().st_size * left))
    with pytest.raises(InputError, match=r"is not a whole archive .*Download it again") as caught:
        list_archive(path)
    assert caught.value.where == path


@pytest.mark.parametrize("name", NAMES)
def test_no_archive_at_all(name, tmp_path):
    (tmp_path / name).write_bytes(b"<html>403 Forbidden</html>" * 100)
    with pytest.raises(InputError, match="is not a whole archive"):
        list_archive(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tgz", "c.zip"])
def test_damage_inside_is_noticed(name, tmp_path):
    rng = np.random.default_rng(0)
    path = packed(tmp_path, name, {f"{k}.bin": rng.bytes(5000) for k in range(60)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    with pytest.raises(InputError, match="Download it again"):
        for file in list_archive(path):
            read_raw(file)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("evil", ["../out.txt", "a/../../out.txt", "/etc/out.txt"])
def test_names_that_lead_out(name, evil, tmp_path):
    path = packed(tmp_path, name, {"in.txt": b"", evil: b"evil"})
    with pytest.raises(InputError, match=f"{name}: holds a member whose name leads out of it"):
        list_archive(path)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def tar_of(path, *members):
    """A tar of (kind, name, what it links to)."""
    with tarfile.open(path, "w") as tar:
        first = tarfile.TarInfo("first")
        first.size = 5
        tar.addfile(first, io.BytesIO(b"first"))
        for kind, name, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return path


def test_a_hard_link_in_a_tar_is_the_file_that_it_means(tmp_path):
    path = tar_of(tmp_path / "a.tar", (tarfile.LNKTYPE, "again", "first"))
    found = {file.name: read_raw(file) for file in list_archive(path)}
    assert found == {"first": b"first", "again": b"first"}


@pytest.mark.parametrize(
    "member",
    [
        (tarfile.SYMTYPE, "outside", "/etc/passwd"),
        (tarfile.SYMTYPE, "first", "first"),
        (tarfile.LNKTYPE, "nowhere", "absent"),
        (tarfile.FIFOTYPE, "pipe", ""),
        (tarfile.CHRTYPE, "device", ""),
        (tarfile.GNUTYPE_SPARSE, "holes", ""),
    ],
)
def test_what_is_no_file_in_a_tar_is_not_left_out_in_silence(member, tmp_path):
    path = tar_of(tmp_path / "a.tar", member)
    with pytest.raises(InputError, match=rf"a\.tar: holds '{member[1]}', .*Extract"):
        list_archive(path)
    hidden = tar_of(tmp_path / "b.tar", (member[0], f"folder/._{member[1]}", member[2]))
    assert [file.name for file in list_archive(hidden)] == ["first"]


def test_a_link_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match=r"a\.zip: holds 'link', a link"):
        list_archive(tmp_path / "a.zip")


def test_room_kept_for_what_never_came(tmp_path):
    """Some downloaders make the file as large as it will be, and then fill it."""
    path = packed(tmp_path, "a.tar")
    os.truncate(path, path.stat().st_size + 5_000_000)
    with pytest.raises(InputError, match=r"is not a whole archive \(its end is missing\)"):
        list_archive(path)


@pytest.mark.parametrize(
    ("name", "form"), [("a.tgz", ".tar"), ("a.tar", ".tgz"), ("a.tar", ".zip")]
)
def test_content_tells_what_an_archive_is(name, form, tmp_path):
    """Browsers unpack `.tgz` and keep the name; servers call all sorts `.tar`."""
    (tmp_path / name).write_bytes(pack(form, CONTENT))
    assert {file.name: read_raw(file) for file in list_archive(tmp_path / name)} == CONTENT


def test_several_gzip_streams_in_one_file(tmp_path):
    """As `pigz` and appending write them."""
    import gzip

    plain = pack(".tar", CONTENT)
    halves = plain[: len(plain) // 2], plain[len(plain) // 2 :]
    (tmp_path / "a.tgz").write_bytes(b"".join(map(gzip.compress, halves)))
    assert {file.name: read_raw(file) for file in list_archive(tmp_path / "a.tgz")} == CONTENT


JUNK = (".DS_Store", "._x 1.jpg", "Thumbs.db", "desktop.ini", "__MACOSX/a/._x", "@eaDir/x@SynoEA")


@pytest.mark.parametrize("name", NAMES)
def test_what_file_managers_leave_is_not_seen(name, tmp_path):
    junk = {f"a/{one}": b"junk" for one in JUNK} | {f"{one}": b"junk" for one in JUNK}
    packed(tmp_path, name, junk | {"a/x 1.jpg": b"image"})
    for path in junk:
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(b"junk")
    (tmp_path / "folder/a/x 1.jpg").write_bytes(b"image")
    for folder in (mount(tmp_path / name), DiskFolder(tmp_path / "folder")):
        assert (folder.folders, folder.files) == (["a"], [])
        assert (folder.folder("a").folders, folder.folder("a").files) == ([], ["x 1.jpg"])


def test_what_zip_can_have(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as zipped:
        zipped.writestr("x", b"x" * 1000, zipfile.ZIP_LZMA)
    with pytest.raises(InputError, match="'x' in it is encrypted, or compressed in a rare way"):
        list_archive(tmp_path / "odd.zip")


def test_a_listing_is_kept_for_the_file_as_it_is(tmp_path):
    path = packed(tmp_path, "a.tgz", {"one": b"1"})
    assert [file.name for file in list_archive(path)] == ["one"]
    time.sleep(0.01)
    packed(tmp_path, "a.tgz", {"other": b"22"})
    (file,) = list_archive(path)
    assert (file.name, read_raw(file)) == ("other", b"22")


def test_a_listing_that_was_cut_off_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = packed(tmp_path, "a.tgz")
    list_archive(path)
    (members,) = tmp_path.rglob("*.members")
    for content in (members.read_bytes()[:-9], b""):
        members.write_bytes(content)
        assert {file.name: read_raw(file) for file in list_archive(path)} == CONTENT


# ---- arrays ----------------------------------------------------------------------------------


def saved(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def test_arrays_are_mapped_wherever_they_lie(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (tmp_path / "x.npy").write_bytes(saved(array))
    path = packed(tmp_path, "a.tar", {"y.npy": saved(array), "z.npy": saved(array[:0])})
    files = [RawFile("x", str(tmp_path / "x.npy")), *list_archive(path)]
    found = [map_raw(file) for file in files]
    assert [one.tolist() for one in found] == [array.tolist(), array.tolist(), []]
    assert isinstance(found[0], np.memmap) and isinstance(found[1], np.memmap)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(np.array([{}], dtype=object), allow_pickle=True), "it holds Python objects"),
        (saved(np.zeros((9, 9)))[:-8], "is not a whole .npy file"),
        (b"text", "is not a whole .npy file"),
        (b"", "is not a whole .npy file"),
    ],
)
def test_broken_arrays(content, message, tmp_path):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=message):
        map_raw(RawFile("x", str(tmp_path / "x.npy")))


# ---- folders ---------------------------------------------------------------------------------


def test_folders_of_many_classes_are_not_searched(tmp_path):
    for k in range(70):
        (tmp_path / "images" / f"class {k}").mkdir(parents=True)
    (tmp_path / "images" / "class 1" / "deep").mkdir()
    (tmp_path / "one/two/three/four/five/six/seven").mkdir(parents=True)
    found = {folder.where.removeprefix(str(tmp_path)) for folder in walk(DiskFolder(tmp_path))}
    below = [f"/{path}" for path in ("one", "one/two", "one/two/three", "one/two/three/four")]
    levels = ("", "/images", *below, below[-1] + "/five", below[-1] + "/five/six")
    assert found == set(levels)


def test_a_damaged_archive_does_not_hide_a_whole_one(tmp_path):
    """It is only said where nothing else has what is sought."""
    packed(tmp_path, "a-fungi.tgz", {"images/1.jpg": b"x"})
    os.truncate(tmp_path / "a-fungi.tgz", 50)
    packed(tmp_path, "b-fungi.tar", {"images/1.jpg": b"x"})
    found = RawData(tmp_path).search(lambda folder: "images" in folder.folders, ["*fungi*"])
    assert next(found).where == str(tmp_path / "b-fungi.tar")
    with pytest.raises(InputError, match=r"a-fungi\.tgz: is not a whole archive"):
        next(found)


@pytest.mark.parametrize(
    ("name", "message"), [("absent", "there is no such folder"), ("x.txt", "neither a folder nor")]
)
def test_raw_data_that_are_none(name, message, tmp_path):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        RawData(tmp_path / name)
