"""Metrics of several processes in shared memory."""

from model_server.telemetry.metrics import Metrics, shared_memory


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


def test_workers_are_added_up_whoever_is_asked() -> None:
    memory = shared_memory(2)
    first, second = Metrics(memory, 2, 0), Metrics(memory, 2, 1)
    first.counter("c_total", "Help.", {"model": "a"}).add(2)
    second.counter("c_total", "Help.", {"model": "a"}).add(3)
    second.counter("c_total", "Help.", {"model": "b"}).add()
    for one in (first, second):
        assert 'c_total{model="a"} 5' in lines(one)
        assert 'c_total{model="b"} 1' in lines(one)
    assert first.totals("c_total", {}) == [6]


def test_a_successor_goes_on_counting_but_starts_its_gauges_anew() -> None:
    memory = shared_memory(1)
    before = Metrics(memory, 1, 0)
    before.counter("c_total", "Help.").add(7)
    before.gauge("g", "Help.").set(3)
    after = Metrics(memory, 1, 0)
    after.counter("c_total", "Help.").add()
    assert "c_total 8" in lines(after)
    assert "g 0" in lines(after)


def test_histogram_buckets_are_cumulative() -> None:
    metrics = Metrics()
    histogram = metrics.histogram("h", "Help.", {"m": 'q"\n'}, (1.0, 2.0))
    histogram.observe(0.5)
    histogram.observe(1.0, times=2)
    histogram.observe(9.0)
    labels = 'm="q\\"\\n"'
    assert lines(metrics) == [
        "# HELP h Help.",
        "# TYPE h histogram",
        f'h_bucket{{{labels},le="1"}} 3',
        f'h_bucket{{{labels},le="2"}} 3',
        f'h_bucket{{{labels},le="+Inf"}} 4',
        f"h_sum{{{labels}}} 11.5",
        f"h_count{{{labels}}} 4",
    ]


def version(metrics: Metrics, number: int) -> None:
    labels = {"model": "m", "version": str(number)}
    metrics.revive(labels)
    metrics.counter("c_total", "Help.", labels).add()
    metrics.histogram("h", "Help.", {**labels, "phase": "queue"}).observe(1.0)
    metrics.retire(labels)


def test_versions_that_are_gone_make_room_for_new_ones() -> None:
    memory = shared_memory(1)
    metrics = Metrics(memory, 1, 0)
    kept = metrics.counter("kept_total", "Help.")
    for number in range(5000):
        kept.add()
        version(metrics, number)
    found = lines(metrics)
    assert "kept_total 5000" in found
    assert 'c_total{model="m",version="4999"} 1' in found
    assert 'h_count{model="m",phase="queue",version="4999"} 1' in found
    assert 'c_total{model="m",version="4900"} 1' not in found
    assert len([line for line in found if line.startswith("c_total")]) < 100
    assert "kept_total 5000" in lines(Metrics(memory, 1, 0))


def test_a_version_that_comes_back_goes_on_counting() -> None:
    metrics = Metrics()
    for number in (1, 2, 1):
        version(metrics, number)
    assert 'c_total{model="m",version="1"} 2' in lines(metrics)
