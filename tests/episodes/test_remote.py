"""Records elsewhere: the same images, few bytes, and patience with servers."""

import shutil
import sys

import numpy as np
import pytest

from episodes import EpisodeReader, InputError, remote
from episodes.block_cache import CACHE_LIMIT, BlockCache, cache_limit
from episodes.protocol import Split
from episodes.records import Records
from episodes.remote_records import BLOCK
from episodes.source import find_spec, open_source, survey_source
from episodes.spec import load_spec
from episodes.tfrecord import encode_example, write_records
from run_meta_dataset import main
from tests.episodes.web_server import serving

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


@pytest.fixture
def records(miniature, tmp_path, monkeypatch):
    """Two sources of the miniature, and a cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    for source in ("dtd", "ilsvrc_2012"):
        kept = shutil.ignore_patterns(".*")
        shutil.copytree(miniature / source, tmp_path / "records" / source, ignore=kept)
    remote.mirror.cache_clear()
    yield tmp_path / "records"
    remote.mirror.cache_clear()


@pytest.fixture
def web(records):
    with serving(records) as served:
        yield served


def everything(records, source="dtd", split=Split.TEST):
    opened = open_source(records, source, split)
    counts = opened.spec.images_per_class
    return [opened.read(k, np.arange(counts[k])) for k in opened.spec.split_classes[split]]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://host/folder/", "https://host/folder"),
        ("https:/host/folder", "https://host/folder"),  # as Path spells it
        ("S3://bucket", "s3://bucket"),
        ("gs:/bucket/a b", "gs://bucket/a b"),
        ("/data/records", None),
        ("records", None),
        ("data:records", None),
    ],
)
def test_urls_are_told_from_folders(text, url):
    assert remote.find_url(text) == url


def test_every_image_is_that_of_the_folder(web, records):
    assert everything(web.url) == everything(records)
    assert (
        find_spec(web.url, "ilsvrc_2012").fingerprint
        == load_spec(records / "ilsvrc_2012").fingerprint
    )
    spec, class_bytes = survey_source(web.url, "dtd")
    first = spec.split_classes[Split.TEST].start
    assert class_bytes(first) == (records / "dtd" / f"{first}.tfrecords").stat().st_size


def test_episodes_equal_those_of_the_folder(web, records):
    there = EpisodeReader(records, "ilsvrc_2012", "test", size=32)
    here = EpisodeReader(web.url, "ilsvrc_2012", "test", size=32)
    for index in (0, 3):
        assert here.plan(index).hash == there.plan(index).hash
        assert here[index].support_images.equal(there[index].support_images)
        assert here[index].query_images.equal(there[index].query_images)


def test_a_large_file_is_read_by_the_piece_and_once(web, records):
    source = load_spec(records / "dtd")
    class_id = source.split_classes[Split.TEST].start
    count = source.images_per_class[class_id]
    path = source.class_file(class_id)
    write_records(path, (encode_example(bytes([i]) * 200_000, class_id) for i in range(count)))
    Records(source, Split.TEST).index()  # the index that lies beside the records is taken over
    opened = open_source(web.url, "dtd", Split.TEST)
    web.sent = 0
    images = np.asarray([2, count - 1, 2])
    assert opened.read(class_id, images) == Records(source, Split.TEST).read(class_id, images)
    assert web.sent < 5 * BLOCK < path.stat().st_size
    sent = web.sent
    opened.read(class_id, images)
    again = open_source(web.url, "dtd", Split.TEST)
    again.read(class_id, images)
    assert web.sent == sent  # from the cache, also by another reader


@pytest.mark.parametrize("fault", [503, 429, "cut", "stall"])
def test_passing_faults_are_overcome(web, records, fault, monkeypatch):
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    web.fault = lambda path, number: fault if number % 3 == 1 and "tfrecords" in path else None
    found = everything(web.url)
    web.fault = lambda path, number: None
    assert found == everything(records)


@pytest.mark.parametrize("fault", [503, "cut"])
def test_a_server_that_never_answers_is_one_message(web, fault):
    opened = open_source(web.url, "dtd", Split.TEST)
    web.fault = lambda path, number: fault
    class_id = opened.spec.split_classes[Split.TEST].start
    with pytest.raises(InputError, match=r"dtd/\d+\.tfrecords.*cannot be read"):
        opened.read(class_id, np.asarray([0]))


def test_a_refusal_is_not_repeated(web):
    opened = open_source(web.url, "dtd", Split.TEST)
    web.fault = lambda path, number: 403
    class_id = opened.spec.split_classes[Split.TEST].start
    web.asked.clear()
    with pytest.raises(InputError, match="Check the address, your rights"):
        opened.read(class_id, np.asarray([0]))
    assert len(web.asked) <= 2


def test_a_server_without_ranges_is_refused(web, records):
    source = load_spec(records / "dtd")
    class_id = source.split_classes[Split.TEST].start
    count = source.images_per_class[class_id]
    path = source.class_file(class_id)
    write_records(path, (encode_example(bytes(200_000), class_id) for _ in range(count)))
    web.fault = lambda path, number: "whole"
    with pytest.raises(InputError, match="whole files, not parts"):
        open_source(web.url, "dtd", Split.TEST).read(class_id, np.asarray([0]))


def test_a_file_that_changes_is_read_anew(web, records):
    opened = open_source(web.url, "dtd", Split.TEST)
    class_id = opened.spec.split_classes[Split.TEST].start
    count = opened.spec.images_per_class[class_id]
    before, fingerprint = opened.read(class_id, np.arange(count)), opened.fingerprint()
    path = records / "dtd" / f"{class_id}.tfrecords"
    write_records(path, (encode_example(b"new %d" % i * 9, class_id) for i in range(count)))
    again = open_source(web.url, "dtd", Split.TEST)
    after = again.read(class_id, np.arange(count))
    assert after == Records(load_spec(records / "dtd"), Split.TEST).read(class_id, np.arange(count))
    assert after != before
    assert again.fingerprint() != fingerprint


@pytest.mark.parametrize("length", [1, 9])
def test_a_file_that_changes_after_its_fingerprint_is_not_read(web, records, length):
    path = records / "dtd" / "0.tfrecords"
    opened = open_source(web.url, "dtd", Split.TRAIN)
    count = opened.spec.images_per_class[0]
    write_records(path, (encode_example(b"old", 0) for _ in range(count)))
    opened.fingerprint()
    write_records(path, (encode_example(b"new" * length, 0) for _ in range(count)))
    with pytest.raises(InputError, match="has changed since this command began"):
        opened.read(0, np.arange(count))


def test_a_damaged_remote_record_is_an_error_and_a_damaged_block_is_not(web, records, tmp_path):
    opened = open_source(web.url, "dtd", Split.TEST)
    class_id = opened.spec.split_classes[Split.TEST].start
    before = opened.read(class_id, np.arange(3))
    for block in (tmp_path / "cache").rglob("blocks/dtd/*/*"):
        block.write_bytes(block.read_bytes()[:-9] + b"damaged!!")
    assert open_source(web.url, "dtd", Split.TEST).read(class_id, np.arange(3)) == before
    path = records / "dtd" / f"{class_id}.tfrecords"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="fails its checksum") as caught:
        open_source(web.url, "dtd", Split.TEST).read(class_id, np.arange(3))
    assert web.url in str(caught.value)


def test_what_is_missing_is_named(web, records):
    with pytest.raises(InputError, match="no such folder"):
        open_source(web.url, "omniglot", Split.TEST)
    class_id = load_spec(records / "dtd").split_classes[Split.TEST].start
    (records / "dtd" / f"{class_id}.tfrecords").unlink()
    with pytest.raises(InputError, match=rf"dtd/{class_id}\.tfrecords: is missing"):
        open_source(web.url, "dtd", Split.TEST).read(class_id, np.asarray([0]))
    with pytest.raises(InputError, match=r"no <source>/dataset_spec.json of any source"):
        open_source(f"{web.url}/nothing", "dtd", Split.TEST)
    with pytest.raises(InputError, match="is no kind of URL"):
        open_source("nonsense://host/records", "dtd", Split.TEST)
    with pytest.raises(InputError, match="cannot be reached: "):
        open_source("ftp://127.0.0.1:1/records", "dtd", Split.TEST)  # connects when it is opened


@pytest.mark.parametrize(("scheme", "package"), [("https", "aiohttp"), ("s3", "s3fs")])
def test_what_is_not_installed_is_named(records, monkeypatch, scheme, package):
    monkeypatch.setitem(sys.modules, package, None)
    registry = pytest.importorskip("fsspec.registry")  # as if no test before had opened one
    monkeypatch.delitem(registry._registry, scheme, raising=False)
    with pytest.raises(InputError, match=f"pip install fsspec {package}"):
        open_source(f"{scheme}://host/records", "dtd", Split.TEST)


def test_a_bucket_that_lists_its_files(records, monkeypatch):
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(records), "/bucket/records", recursive=True)
    try:
        assert everything("memory://bucket/records") == everything(records)
        class_id = load_spec(records / "dtd").split_classes[Split.TEST].start
        store.rm(f"/bucket/records/dtd/{class_id}.tfrecords")
        with pytest.raises(InputError, match=r"1 of the .* class files of the test split"):
            open_source("memory://bucket/records", "dtd", Split.TEST)
    finally:
        store.rm("/bucket", recursive=True)


def test_a_cache_stays_within_its_limit(tmp_path):
    cache = BlockCache(tmp_path, limit=10_000)
    for number in range(30):
        cache.put("file", number, bytes([number]) * 996)
        assert cache.get("file", 0) is not None  # used all the time, so kept
        assert sum(path.stat().st_size for path in (tmp_path / "file").iterdir()) <= 10_000
    assert cache.get("file", 29) == bytes([29]) * 996
    assert cache.get("file", 5) is None
    cache.put("file", 99, bytes(20_000))  # larger than all there may be
    assert cache.get("file", 99) is None
    cache.forget("file")
    assert cache.get("file", 29) is None


@pytest.mark.parametrize("text", ["much", "-1", "nan", "1e99"])
def test_a_limit_is_a_number(text, monkeypatch):
    monkeypatch.setenv(CACHE_LIMIT, text)
    with pytest.raises(InputError, match=CACHE_LIMIT):
        cache_limit()


def test_the_command_line_reads_urls(web, tmp_path, capsys):
    given = ["--records", web.url, "--sources", "dtd"]
    assert main(["describe", *given, "--episodes", "2"]) == 0
    assert "dtd" in capsys.readouterr().out
    assert main(["pack", *given, "--splits", "test", "--size", "16", "--out", str(tmp_path)]) == 0
    with_pack = EpisodeReader(web.url, "dtd", "test", size=16, packs=tmp_path)
    assert with_pack.images.pack is not None
    capsys.readouterr()
    for command in (["check"], ["convert", "dtd", "--raw", str(tmp_path)], ["data", "status"]):
        assert main([*command, "--records", web.url]) == 2
        assert "of this machine only" in " ".join(capsys.readouterr().err.split())
