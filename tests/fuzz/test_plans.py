"""Mutated plan files: the bytes of the Parquet file, its header and its columns."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from episodes.plan_file import HEADER, draw_plans, read_plans, write_plans
from episodes.sampling import EpisodeSampler
from episodes.spec import load_spec
from tests.fuzz.mutation import mutate_bytes, mutate_value, put, survive


def test_plan_files(miniature, tmp_path):
    spec, path = load_spec(miniature / "dtd"), tmp_path / "dtd.parquet"
    write_plans(draw_plans(EpisodeSampler(spec, "test", "5w1s"), 0, 3), path)
    whole, table = path.read_bytes(), pq.read_table(path)
    header = json.loads(table.schema.metadata[HEADER])
    columns = table.to_pydict()

    def make(draw):
        if draw.random() < 0.5:
            return mutate_bytes(whole, draw)
        told, lists = header, columns
        if draw.random() < 0.5:
            told = mutate_value(header, draw)
        else:
            lists = mutate_value(columns, draw)
        try:
            changed = pa.table(lists)
        except (pa.ArrowException, OverflowError, TypeError, ValueError, AttributeError):
            changed = table  # no table is made of these
        sink = io.BytesIO()
        metadata = {HEADER: json.dumps(told).encode("utf-8", "surrogatepass")}
        pq.write_table(changed.replace_schema_metadata(metadata), sink)
        return sink.getvalue()

    def read(content):
        read_plans(put(path, content)).check(spec)

    survive("plan files", 2500, make, read)
