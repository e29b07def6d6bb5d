"""Records in a bucket, of a server for tests on this machine."""

import numpy as np
import pytest

from episodes import EpisodeReader, InputError, remote
from episodes.spec import load_spec
from run_meta_dataset import main

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
boto3 = pytest.importorskip("boto3")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages for buckets


@pytest.fixture(scope="module")
def bucket(miniature):
    """Two sources of the miniature in a bucket: the client and the URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    address = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket="bench")
        for source in ("dtd", "vgg_flower"):
            for path in (miniature / source).glob("[!.]*"):
                if path.is_file():
                    key = f"a/records/{source}/{path.name}"
                    client.put_object(Bucket="bench", Key=key, Body=path.read_bytes())
        yield client, "s3://bench/a/records"
    server.stop()


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A cache of one's own, and servers that are not waited for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    remote.mirror.cache_clear()
    yield
    remote.mirror.cache_clear()


def test_the_same_episodes_as_from_a_folder(bucket, miniature, fresh):
    _, url = bucket
    there = EpisodeReader(remote.local_folder(url), "dtd", "test", size=32)
    here = EpisodeReader(miniature, "dtd", "test", size=32)
    for index in (0,):
        far, near = there.read(there.plan(index)), here.read(here.plan(index))
        assert there.plan(index).hash == here.plan(index).hash
        assert np.array_equal(far.support_images, near.support_images)
        assert np.array_equal(far.query_images, near.query_images)


def test_commands_take_the_url(bucket, fresh, capsys):
    _, url = bucket
    assert main(["describe", "--records", url, "--sources", "dtd", "--episodes", "2"]) == 0
    assert "dtd" in capsys.readouterr().out


def test_a_missing_place_is_one_line(bucket, fresh, capsys):
    assert main(["describe", "--records", "s3://bench/nothing", "--sources", "dtd"]) == 2
    assert "s3://bench/nothing: there is no <source>/" in capsys.readouterr().err
    assert main(["describe", "--records", "s3://absent/a", "--sources", "dtd"]) == 2
    assert "s3://absent/a" in capsys.readouterr().err


def test_a_missing_and_a_truncated_file(bucket, miniature, fresh):
    client, url = bucket
    reader = EpisodeReader(remote.local_folder(url), "vgg_flower", "test", size=32)
    plan = reader.plan(0)
    number = int(plan.class_ids[0])
    client.delete_object(Bucket="bench", Key=f"a/records/vgg_flower/{number}.tfrecords")
    with pytest.raises(InputError, match=rf"{url}/vgg_flower/{number}.tfrecords: is missing"):
        reader.read(plan)
    path = load_spec(miniature / "vgg_flower").class_file(number)
    key = f"a/records/vgg_flower/{number}.tfrecords"
    client.put_object(Bucket="bench", Key=key, Body=path.read_bytes()[:-7])
    remote.mirror.cache_clear()
    with pytest.raises(InputError, match=r"truncated|cut off|ends"):
        EpisodeReader(remote.local_folder(url), "vgg_flower", "test", size=32).read(plan)
