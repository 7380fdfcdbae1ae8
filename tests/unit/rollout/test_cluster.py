"""Rollouts on Kubernetes: who drives, what is written down, and what is counted."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiException

from stacks.rollout.cluster import journal as journals
from stacks.rollout.cluster.api import Api, UnreachableError
from stacks.rollout.cluster.journal import ClusterJournal
from stacks.rollout.cluster.lease import ClusterLease, living
from stacks.rollout.cluster.opened import counted_before
from stacks.rollout.cluster.scrape import PodScrape, PrometheusScrape
from stacks.rollout.cluster.source import ClusterSource
from stacks.rollout.cluster.stack import clusters, unseen
from stacks.rollout.errors import LeaseLostError, RolloutError, SourceDownError
from stacks.rollout.readings import Reading, Snapshot
from stacks.rollout.sources.counters import COMPLETED
from tests.unit.rollout.fake_cluster import FakeApi, pod

LEASE = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/tiny-rollout"


def journal(api: FakeApi) -> ClusterJournal:
    return ClusterJournal(api, "shop", "tiny")


def events(of: ClusterJournal) -> list[str]:
    return [record["event"] for record in of.records()]


def test_records_of_two_writers_have_one_order_that_both_read() -> None:
    api = FakeApi()
    one, other = journal(api), journal(api)
    one.append("started")
    other.append("paused")
    api.before_write = lambda: one.append("observed") and None  # between the other's reading and writing
    other.append("asked", what="abort")
    assert events(one) == events(other) == ["started", "paused", "observed", "asked"]
    assert one.since(3) == (one.records()[3:], 4)


def test_a_record_whose_answer_was_lost_is_written_once() -> None:
    api = FakeApi()
    one = journal(api)
    one.append("started")
    api.loses_answers = 1
    one.append("decided", decision="advance")
    assert events(journal(api)) == ["started", "decided"]


def test_a_journal_goes_on_in_the_next_config_map_before_one_is_full(monkeypatch: Any) -> None:
    monkeypatch.setattr(journals, "FULL_BYTES", 400)
    api = FakeApi()
    one, other = journal(api), journal(api)
    for number in range(20):
        (one, other)[number % 2].append("observed", number=number)
    assert len(api.objects) > 3
    for reader in (one, other, journal(api)):
        assert [record["number"] for record in reader.records()] == [*range(20)]


def test_a_cluster_that_does_not_answer_is_said_so_with_the_way_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(journals.time, "sleep", lambda _s: None)
    api = FakeApi()
    api.is_down = True
    with pytest.raises(RolloutError, match=r"could not be written: no answer.*resume tiny"):
        journal(api).append("started")


def test_a_second_driver_is_refused_and_may_follow() -> None:
    api = FakeApi()
    with ClusterLease(api, "shop", "tiny") as first:
        held = living(api, "shop", "tiny")
        assert held is not None
        with (
            pytest.raises(RolloutError, match="drives this rollout"),
            ClusterLease(_elsewhere(api), "shop", "tiny"),
        ):
            pass
        first.check()
    assert living(api, "shop", "tiny") is None
    with ClusterLease(api, "shop", "tiny") as second:
        assert (second.epoch, second.before) == (first.epoch + 1, None)


def _elsewhere(api: FakeApi) -> FakeApi:
    """The same cluster, where the holder is another process than this one."""
    who = api.objects[LEASE]["metadata"]["annotations"]["serving-estate/driver"].split()
    api.objects[LEASE]["metadata"]["annotations"]["serving-estate/driver"] = f"{who[0]} another-host 1"
    return api


def test_one_who_was_taken_for_dead_finds_out_before_it_touches_anything() -> None:
    api = FakeApi()
    with ClusterLease(api, "shop", "tiny") as first:
        _elsewhere(api).objects[LEASE]["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
        with ClusterLease(api, "shop", "tiny") as second:
            assert second.before is not None
            assert second.before["host"] == "another-host"
            with pytest.raises(LeaseLostError, match="has taken over"):
                first.check()
            second.check()


def test_one_who_cannot_say_that_it_lives_stops_by_itself(monkeypatch: Any) -> None:
    api = FakeApi()
    with ClusterLease(api, "shop", "tiny") as lease:
        api.is_down = True
        lease.check()  # a moment's silence is none
        monkeypatch.setattr(lease, "_renewed", -math.inf)
        with pytest.raises(LeaseLostError, match=r"could not say for 15 s.*resume tiny"):
            lease.check()
        api.is_down = False


def served(answered: int, slow: int = 0, **errors: int) -> str:
    lines = [f'model_server_request_seconds_bucket{{model="tiny",le="0.005"}} {answered - slow}']
    lines += [f'model_server_request_seconds_bucket{{model="tiny",le="+Inf"}} {answered}']
    lines += [f'model_server_request_seconds_count{{model="tiny"}} {answered}']
    lines += [f'model_server_errors_total{{kind="{kind}"}} {count}' for kind, count in errors.items()]
    return "\n".join(lines)


def passed(requests: Mapping[str, tuple[int, int]]) -> str:
    lines = []
    for cluster, (completed, failed) in requests.items():
        of = f'envoy_cluster_name="{cluster}"'
        lines += [f"envoy_cluster_upstream_rq_completed{{{of}}} {completed}"]
        lines += [f'envoy_cluster_upstream_rq_xx{{{of},envoy_response_code_class="5"}} {failed}']
    return "\n".join(lines)


def at(name: str, port: int = 8080, namespace: str = "shop") -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/"


def source(api: FakeApi, gateway: tuple[str, str] | None = None) -> ClusterSource:
    return ClusterSource(PodScrape(api, "shop", gateway), lambda _endpoint: PLACES.get)


def test_servers_are_counted_over_pods_and_over_what_becomes_of_pods() -> None:
    api = FakeApi()
    api.pods = [pod("b1", "blue"), pod("g1", "green"), pod("g2", "green"), pod("g3", "green", ready=False)]
    api.texts = {at("b1"): served(1000), at("g1"): served(90, internal=10), at("g2"): served(50)}
    reader = source(api)
    first = reader.read("tiny", ["blue", "green"])
    assert first.variants["blue"].requests == 0, "nobody knows when that was"

    api.texts |= {at("b1"): served(2000, slow=10, bad_request=5), at("g2"): served(60, deadline_exceeded=1)}
    api.texts |= {at("g1"): served(3)}  # its container was started again
    api.pods = [pod("b1", "blue"), pod("g1", "green", restarts=1), pod("g2", "green")]
    second = reader.read("tiny", ["blue", "green"])
    assert second.edges == [5, math.inf]
    assert (second.variants["blue"].requests, second.variants["blue"].failures) == (1005, 0)
    assert second.variants["blue"].latency == [990, 10]
    assert (second.variants["green"].requests, second.variants["green"].failures) == (14, 1)

    api.pods = [pod("g1", "green", restarts=1)]  # two of them are not ready for a while
    assert reader.read("tiny", ["blue", "green"]) == second
    api.pods = [pod("g2", "green"), pod("b1", "blue"), pod("g1", "green", restarts=1)]
    assert reader.read("tiny", ["blue", "green"]) == second


def test_the_next_driver_goes_on_with_the_counters_of_the_journal() -> None:
    api = FakeApi()
    api.pods = [pod("b1", "blue"), pod("g1", "green")]
    api.texts = {at("b1"): served(1_000_000), at("g1"): served(90)}
    raw = {"blue": Reading(700, 1, [600, 100]), "green": Reading(7, 0, [7, 0])}
    scrape = PodScrape(api, "shop", None)
    reader = ClusterSource(scrape, lambda _endpoint: {}.get, Snapshot([5, math.inf], raw))
    assert reader.read("tiny", ["blue", "green"]).variants == raw
    api.texts[at("g1")] = served(100)
    assert reader.read("tiny", ["blue", "green"]).variants["green"].since(raw["green"]).requests == 10


def test_a_driver_goes_on_where_the_one_before_died_before_its_first_step() -> None:
    api = FakeApi()
    api.pods = [pod("b1", "blue"), pod("g1", "green")]
    api.texts = {at("b1"): served(900), at("g1"): served(90)}
    raw = {"blue": Reading(700, 1, [600, 100]), "green": Reading(7, 0, [7, 0])}
    begin = counted_before(SimpleNamespace(raw=raw, edges=[]))  # type: ignore[arg-type]
    reader = ClusterSource(PodScrape(api, "shop", None), lambda _endpoint: {}.get, begin)
    first = reader.read("tiny", ["blue", "green"])
    assert {name: one.requests for name, one in first.variants.items()} == {"blue": 700, "green": 7}


PLACES = {
    "httproute/shop/tiny/rule/0/backend/0": "blue",
    "httproute/shop/tiny/rule/0/backend/1": "green",
    "grpcroute/shop/tiny/rule/0/backend/1": "green",
}
FIRST, SECOND, REMOTE = PLACES


def with_gateway() -> FakeApi:
    api = FakeApi()
    proxy = pod("proxy", "")
    owner = "gateway.envoyproxy.io/owning-gateway"
    labels = {f"{owner}-name": "gateway", f"{owner}-namespace": "shop"}
    proxy["metadata"] |= {"namespace": "gateways", "labels": labels}
    api.pods = [pod("b1", "blue"), pod("g1", "green"), proxy]
    api.texts = {at("b1"): served(900), at("g1"): served(95)}
    return api


def test_a_gateway_counts_every_failure_once_and_no_server_is_asked() -> None:
    api = with_gateway()
    api.texts = {at("g1"): served(95, internal=7)}  # another server is asked for nothing, or this would fail
    reader = source(api, ("shop", "gateway"))

    def seen(http: int, grpc: int = 0, fallback: int = 0) -> int:
        requests = {FIRST: (900, 0), SECOND: (100, http), REMOTE: (100, 0), "other": (9, 9)}
        of = f'{{envoy_cluster_name="{REMOTE}"}}'
        more = [
            f"envoy_cluster_grpc_ModelInfer_13{of} {grpc}",
            f"envoy_cluster_grpc_ModelInfer_5{of} 12",  # asked for what is not there
            f"envoy_cluster_grpc_ModelInfer_failure{of} {12 + grpc}",
            f"envoy_cluster_canary_upstream_rq_completed{of} {fallback}",
        ]
        api.texts[at("proxy", 19001, "gateways")] = "\n".join((passed(requests), *more))
        return reader.read("tiny", ["blue", "green"]).variants["green"].failures

    assert seen(http=5) == 0, "that was before"
    assert seen(http=15) == 10
    assert seen(http=15, grpc=4) == 14, "over gRPC its status is 200"
    assert seen(http=18, grpc=4) == 17
    assert seen(http=18, grpc=4, fallback=6) == 23, "a fallback answered, not the variant"


def test_who_counted_at_first_goes_on_with_it() -> None:
    api = with_gateway()
    (*servers, proxy) = api.pods
    api.texts[at("proxy", 19001, "gateways")] = passed({FIRST: (900, 0), SECOND: (100, 50)})
    by_gateway, by_servers = (source(api, ("shop", "gateway")) for _ in range(2))
    by_gateway.read("tiny", ["blue", "green"])
    api.pods = servers
    assert by_servers.read("tiny", ["blue", "green"]).variants["green"].requests == 0
    with pytest.raises(SourceDownError, match="gateway of endpoint tiny has no metrics any more"):
        by_gateway.read("tiny", ["blue", "green"])
    api.pods = [*servers, proxy]
    api.texts[at("g1")] = served(105)
    assert by_servers.read("tiny", ["blue", "green"]).variants["green"] == Reading(10, 0, [10, 0])
    assert by_gateway.read("tiny", ["blue", "green"]).variants["green"].requests == 0


def test_what_a_place_of_the_gateway_counted_for_another_variant_stays_with_that_one() -> None:
    api = with_gateway()
    owners = dict(PLACES)
    reader = ClusterSource(PodScrape(api, "shop", ("shop", "gateway")), lambda _endpoint: owners.get)

    def seen(first: int, second: int) -> tuple[int, int]:
        requests = {FIRST: (first, 0), SECOND: (second, 0)}
        api.texts[at("proxy", 19001, "gateways")] = passed(requests)
        found = reader.read("tiny", ["blue", "green"]).variants
        return found["blue"].requests, found["green"].requests

    seen(1_000_000, 10)
    assert seen(1_000_075, 35) == (75, 25)
    owners |= {FIRST: "green", SECOND: "blue"}
    assert seen(1_000_100, 40) == (75, 25)
    assert seen(1_000_190, 50) == (85, 115)


def test_a_server_that_is_ready_and_does_not_tell_holds_everything() -> None:
    api = FakeApi()
    api.pods = [pod("b1", "blue"), pod("g1", "green")]
    api.texts = {at("b1"): served(5)}
    with pytest.raises(SourceDownError, match="g1"):
        source(api).read("tiny", ["blue", "green"])
    api.pods = []
    with pytest.raises(SourceDownError, match="no server of endpoint tiny has metrics"):
        source(api).read("tiny", ["blue", "green"])


def test_the_clusters_of_a_route_are_told_by_the_place_of_their_backend() -> None:
    backends = [{"name": "tiny-blue", "weight": 99}, {"name": "tiny-green", "weight": 1}]
    rules = [{"backendRefs": backends[1:]}, {"filters": []}, {"backendRefs": backends}]
    assert clusters({"spec": {"rules": rules}}, "httproute", "shop", "tiny") == {
        "httproute/shop/tiny/rule/0": "green",
        "httproute/shop/tiny/rule/0/backend/0": "green",
        "httproute/shop/tiny/rule/2/backend/0": "blue",
        "httproute/shop/tiny/rule/2/backend/1": "green",
    }


@pytest.mark.parametrize(
    ("generation", "status", "told"),
    [
        (4, "True", None),
        (5, "True", "has not been seen by eg"),
        (4, "False", "ResolvedRefs|BackendNotFound"),
    ],
)
def test_a_move_ends_when_the_gateway_has_seen_it(generation: int, status: str, told: str | None) -> None:
    condition = {
        "type": "ResolvedRefs",
        "status": status,
        "observedGeneration": 4,
        "reason": "BackendNotFound",
    }
    route = {
        "kind": "HTTPRoute",
        "metadata": {"name": "tiny", "generation": generation},
        "status": {"parents": [{"controllerName": "eg", "conditions": [condition]}]},
    }
    found = unseen(route)
    assert (found is None) if told is None else any(word in str(found) for word in told.split("|"))


class Prometheus(PrometheusScrape):
    """Answers queries from a list of series; that the queries are right, a real one shows on the cluster."""

    found: list[tuple[dict[str, str], float]]

    def _ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        if query.startswith("min("):
            when = 17.5 if COMPLETED in query else 21.5
            return [({}, when)] if self.found else []
        name = "envoy_" if "envoy_cluster_name" in query else "model_server_"
        variant = "tiny-green-" if "tiny-green-" in query else "tiny-blue-"
        return [
            (labels, value)
            for labels, value in self.found
            if labels["__name__"].startswith(name) and (name == "envoy_" or labels["pod"].startswith(variant))
        ]


def by_prometheus(requests: int) -> list[tuple[dict[str, str], float]]:
    server = {"__name__": "model_server_request_seconds_count", "model": "tiny"}
    found = [({**server, "pod": f"tiny-{name}-1-a"}, float(requests)) for name in ("blue", "green")]
    faults = {"__name__": "model_server_errors_total", "pod": "tiny-green-1-a", "kind": "internal"}
    proxy = {"__name__": "envoy_cluster_upstream_rq_completed", "pod": "proxy-1"}
    failed = {**proxy, "__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": "5"}
    return [
        *found,
        (faults, requests / 10),
        ({**proxy, "envoy_cluster_name": FIRST}, 2.0 * requests),
        ({**proxy, "envoy_cluster_name": SECOND}, 1.0 * requests),
        ({**failed, "envoy_cluster_name": SECOND}, requests / 10),
    ]


def test_a_prometheus_tells_the_same_as_the_pods() -> None:
    for by_gateway, requests, scraped in ((True, 200, 17.5), (False, 220, 21.5)):
        scrape = Prometheus("http://prometheus:9090", "shop", by_gateway)
        scrape.found = by_prometheus(100)
        reader = ClusterSource(scrape, lambda _endpoint: PLACES.get)
        reader.read("tiny", ["blue", "green"])
        scrape.found = by_prometheus(300)
        found = reader.read("tiny", ["blue", "green"]).variants["green"]
        assert (found.requests, found.failures) == (requests, 20)
        assert scrape.seen_up_to("tiny") == scraped, "of those that are counted by"
        scrape.found = []
        with pytest.raises(SourceDownError, match="are its pods scraped"):
            scrape.seen_up_to("tiny")
        with pytest.raises(SourceDownError):
            reader.read("tiny", ["blue", "green"])


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([], None),
        (["timed out", "Handshake status 502 Bad Gateway -+-+- {} -+-+- b''"], None),
        (["timed out"] * 9, "port 8080 of pod shop/g1: timed out"),
        (
            ["Handshake status 403 Forbidden -+-+- {} -+-+- b'no'"],
            "403 Forbidden: it takes the rights to get",
        ),
        (["Handshake status 404 Not Found -+-+- {} -+-+- b'no'"], "404 Not Found$"),
    ],
    ids=["at-once", "soon", "never", "without-rights", "without-pod"],
)
def test_a_port_of_a_pod_is_tried_again_where_that_may_help(
    failures: list[str], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(failures)
    closed: list[str] = []

    def call(*_: Any, **__: Any) -> Any:
        if reason := next(left, None):
            raise ApiException(status=0, reason=reason)
        return SimpleNamespace(socket=lambda port: f"to {port}", close=lambda: closed.append("it"))

    monkeypatch.setattr("kubernetes.stream.ws_client.portforward_call", call)
    monkeypatch.setattr("stacks.rollout.cluster.api.time.sleep", lambda _: None)
    api = object.__new__(Api)
    api._settings = SimpleNamespace(host="https://cluster", auth_settings=dict)
    if told:
        with pytest.raises(UnreachableError, match=told), api.port("shop", "g1", 8080):
            pass
        return
    with api.port("shop", "g1", 8080) as reached:
        assert reached == "to 8080"  # type: ignore[comparison-overlap]
    assert closed == ["it"]
