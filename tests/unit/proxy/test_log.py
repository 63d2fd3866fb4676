"""Log records never make their maker wait; what cannot be written is counted."""

import gc
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from sidecar.proxy.log import LogWriter
from sidecar.proxy.metrics import Metrics


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    writers = []

    def writer(**options) -> LogWriter:
        writers.append(LogWriter(writing, **options))
        return writers[-1]

    yield reading, writing, writer
    os.close(reading)  # who still waits for a reader gets an error, and ends
    for each in writers:
        each.close()
    os.close(writing)


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord("sidecar.audit", logging.INFO, __file__, 1, text, None, None)


def _log(writer: LogWriter, *texts: str) -> None:
    for text in texts:
        writer.handle(_record(text))


def test_records_are_written_in_order_and_before_it_closes(pipe):
    reading, _, make = pipe
    writer = make()
    _log(writer, *(f"number {count}" for count in range(200)))
    writer.close()
    lines = os.read(reading, 65536).decode().splitlines()
    assert [line.partition(" sidecar.audit INFO ")[2] for line in lines] == [f"number {count}" for count in range(200)]
    assert writer.lost == 0


def test_records_that_a_full_disk_does_not_take_are_counted():
    with Path("/dev/full").open("wb") as full:
        writer = LogWriter(full.fileno())
        _log(writer, "one", "two", "three")
        writer.close()
    assert writer.lost == 3


def test_where_nobody_reads_nobody_waits_and_what_is_dropped_is_counted(pipe):
    _, _, make = pipe
    writer = make(queue_records=10)
    done = threading.Event()

    def log() -> None:
        _log(writer, *["x" * 10_000] * 100)
        done.set()

    threading.Thread(target=log, daemon=True).start()
    assert done.wait(10)
    # A pipe holds 64 KiB, six records: the thread waits with one batch of at most the queue's ten and one.
    assert writer.lost >= 100 - 2 * (10 + 1) - 6
    _log(writer, "more")
    assert writer.lost > 0


def test_after_half_a_record_the_next_one_starts_on_a_line_of_its_own(pipe):
    reading, writing, make = pipe
    os.set_blocking(writing, False)
    writer = make()
    _log(writer, "y" * 100_000)
    while writer.lost == 0:
        pass
    torn = os.read(reading, 1_000_000)
    _log(writer, "whole")
    writer.close()
    rest = os.read(reading, 1_000_000)
    assert torn.endswith(b"y")
    assert rest.startswith(b"\n")
    assert rest.decode().splitlines()[1].endswith("sidecar.audit INFO whole")
    assert writer.lost == 1


def test_a_record_that_cannot_be_formatted_is_dropped_and_counted(pipe):
    reading, _, make = pipe
    writer = make()
    writer.handle(logging.LogRecord("sidecar", logging.INFO, __file__, 1, "%d", ("no number",), None))
    _log(writer, "after it")
    writer.close()
    assert os.read(reading, 65536).endswith(b"after it\n")
    assert writer.lost == 1


def test_the_count_is_a_metric():
    metrics = Metrics()
    metrics.watch_log(lambda: 3)
    assert metrics.value("gate_log_records_lost_total") == 3
    assert b"gate_log_records_lost_total 3.0" in metrics.exposition()


def test_closing_does_not_wait_for_ever_for_a_reader_that_has_stopped(pipe):
    _, _, make = pipe
    writer = make(queue_records=2)
    _log(writer, *["x" * 60_000] * 10)
    ended = threading.Thread(target=writer.close, daemon=True)
    ended.start()
    ended.join(8)
    assert not ended.is_alive()


class _LogsWhenDestroyed:
    """Garbage that only the collector destroys, as asyncio's pending tasks are."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._itself = self

    def __del__(self) -> None:
        _log(self._writer, "destroyed")


def test_what_the_garbage_collector_logs_while_a_record_is_queued_stops_nobody(pipe):
    _, _, make = pipe  # it fills, and then what is written nowhere waits in the queue
    writer = make(queue_records=1_000_000)
    done = threading.Event()

    def log() -> None:
        for _ in range(1000):
            gc.disable()
            _LogsWhenDestroyed(writer)
            _log(writer, "record")
            gc.enable()  # it is the thread that writes, most likely, which now collects
            time.sleep(0.0003)
        done.set()

    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        threading.Thread(target=log, daemon=True).start()
        assert done.wait(20)
    finally:
        gc.set_threshold(*thresholds)
