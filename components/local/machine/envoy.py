"""What a gateway and its routes are in Envoy's words: plain data, made from a route's inputs.

Everything but the bootstrap is dynamic configuration in files that Envoy watches: LDS names a listener
an endpoint, RDS holds its weights, CDS its variants and EDS (written by the process groups) where the
replicas of a variant listen. Moving weights rewrites one RDS file.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Requests are held until they are answered, so that one can be sent again elsewhere when a server
# dies: this bounds the memory for it. A larger body is served too, but not retried.
BUFFER_BYTES = 32 * 1024 * 1024

# Each a tenth above the one before, from half a millisecond to a minute: whether one variant is half as slow
# again as another cannot be told with buckets that are wider than that.
LATENCY_EDGES_MS = tuple(round(0.5 * 1.1**power, 4) for power in range(124))

_TYPE = "type.googleapis.com/envoy"
_NO_BREAKERS: Json = {
    "thresholds": [
        {
            "max_connections": 65536,
            "max_pending_requests": 65536,
            "max_requests": 65536,
            "max_retries": 1024,
        }
    ]
}
# Never ask those that are known to be unable, not even when most of them are. And act at once on what a check
# has found: by default Envoy gathers it for a second, in which all tries can go to a dead replica.
_BALANCING: Json = {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}
# Under this name replicas say whose they are, which a route can tell clients.
_METADATA = "serving-estate"
# Not before the last replica of a variant is unable does another one get its requests.
_ALL_OR_NOTHING = 10_000
# One of the two protocols a variant speaks, and the port of its process group.
_PROTOCOLS = ("http", "grpc")
# The Open Inference Protocol's, which all runtimes answer on their port for REST.
_READY_PATH = "/v2/health/ready"


def bootstrap(name: str) -> Json:
    """The static part: where the dynamic files are and the admin address. `@…@` is filled at start."""
    return {
        "node": {"id": name, "cluster": "serving-estate"},
        "admin": {"address": _address("@admin@")},
        # What a rollout reads: histograms are told a second late at most, and fine enough to compare.
        "stats_flush_interval": "1s",
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": list(LATENCY_EDGES_MS)}
            ]
        },
        "dynamic_resources": {
            "lds_config": _file("@data@/listeners.json"),
            "cds_config": _file("@data@/clusters.json"),
        },
    }


def cluster_name(endpoint: str, variant: str, protocol: str) -> str:
    """The name under which Envoy counts the requests of a variant."""
    return f"{endpoint}/{variant}/{protocol}"


def endpoint_file(service: Path, port: str) -> Path:
    """The file in which a process group writes where its replicas listen on `port`."""
    return service.with_name(f"{service.name}.{port}.json")


def clusters(endpoint: str, services: Mapping[str, str], stand_in: str | None = None) -> list[Json]:
    """A cluster for each variant and protocol, and one more for each that another variant stands in for.

    Args:
        endpoint: its name.
        services: the variants' process groups.
        stand_in: the variant that answers when another one does not, or None.
    """
    own = [
        _cluster(cluster_name(endpoint, variant, protocol), endpoint_file(Path(service), protocol), protocol)
        for variant, service in services.items()
        for protocol in _PROTOCOLS
    ]
    if stand_in is None:
        return own
    others = [variant for variant in services if variant != stand_in]
    return [
        *own,
        *(_backed(endpoint, name, stand_in, protocol) for name in others for protocol in _PROTOCOLS),
    ]


def _backed_name(endpoint: str, variant: str, stand_in: str, protocol: str) -> str:
    return f"{cluster_name(endpoint, variant, protocol)}/{stand_in}"


def _backed(endpoint: str, variant: str, stand_in: str, protocol: str) -> Json:
    """First the variant's replicas; those of its stand-in where none of them is ready, or one has failed."""
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": _backed_name(endpoint, variant, stand_in, protocol),
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [cluster_name(endpoint, name, protocol) for name in (variant, stand_in)],
            },
        },
        "common_lb_config": _BALANCING,
        "circuit_breakers": _NO_BREAKERS,
    }


def _cluster(name: str, endpoints: Path, protocol: str) -> Json:
    http2: Json = {"http2_protocol_options": {}}
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _file(str(endpoints)), "service_name": endpoints.stem},
        "connect_timeout": "1s",
        # Taking turns: by the shortest queue a dead replica, which holds none, would be chosen first.
        "lb_policy": "ROUND_ROBIN",
        # Only replicas that say they are ready are asked: one that was just started listens before it has
        # loaded its model. A replica that is taken out of the file is asked until it says that it stops,
        # so there is no moment without one. A long answer is that of a busy server, not of a dead one.
        "health_checks": [
            {
                "interval": "0.25s",
                "no_traffic_interval": "0.25s",
                "timeout": "5s",
                "healthy_threshold": 1,
                "unhealthy_threshold": 1,
                "http_health_check": {"path": _READY_PATH},
            }
        ],
        "common_lb_config": _BALANCING,
        # The server bounds its own queue and says 429 or 503; the gateway must not do it first.
        "circuit_breakers": _NO_BREAKERS,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": http2 if protocol == "grpc" else {"http_protocol_options": {}},
            }
        },
    }


def listener(endpoint: str, port: int, routes: Path) -> Json:
    """The listener of one endpoint: REST and gRPC on one port of 127.0.0.1."""
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": endpoint,
        "codec_type": "AUTO",
        "rds": {"route_config_name": endpoint, "config_source": _file(str(routes))},
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "server_header_transformation": "PASS_THROUGH",
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
        "http2_protocol_options": {"max_concurrent_streams": 1024},
        "local_reply_config": {
            # What the gateway itself has to say has the shape of every other error.
            "body_format": {"json_format": {"error": "gateway: %LOCAL_REPLY_BODY%"}}
        },
        "http_filters": [
            # A failed gRPC call travels in an answer of status 200: without this it would count as good.
            {
                "name": "envoy.filters.http.grpc_stats",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.grpc_stats.v3.FilterConfig"},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {
        "@type": f"{_TYPE}.config.listener.v3.Listener",
        "name": endpoint,
        "address": _address(port),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def route_configuration(
    endpoint: str,
    weights: Mapping[str, int],
    shadow: Mapping[str, Any] | None,
    pin_header: str,
    timeout_seconds: float,
    retries: int,
    users: Mapping[str, str] | None = None,
    stand_in: str | None = None,
) -> Json:
    """The weights, pins and mirror of one endpoint.

    Args:
        endpoint: its name.
        weights: each variant's share of the requests in per cent; they add up to 100.
        shadow: `{"variant": name, "percent": share}` of the requests to copy to a variant whose
            answers are thrown away, or None.
        pin_header: a request whose header of this name holds a variant's name goes to that variant.
        timeout_seconds: for the whole request, retries included.
        retries: how often a request may be sent again after a connection failed or was reset.
        users: `{"header": name}` or `{"cookie": name}` of what tells users apart, who then stay with their
            variant for as long as the weights do; None to divide requests one by one.
        stand_in: the variant that answers when another one does not, or None. Not for who asks for a variant
            by name.
    """
    common: Json = {"timeout": f"{timeout_seconds:g}s", "retry_policy": _retry_policy(retries)}
    pins: list[Json] = []
    shares: list[Json] = []
    for protocol in reversed(_PROTOCOLS):
        for variant in weights:
            pinned: Json = {"name": pin_header, "string_match": {"exact": variant}}
            action = common | _split(endpoint, {variant: 100}, protocol)
            pins.append({"match": _match(protocol, [pinned]), "route": action})
        action = common | _split(endpoint, weights, protocol, stand_in)
        if stand_in:
            action["retry_policy"] = _stand_in_policy(timeout_seconds)
        if users:
            action["weighted_clusters"]["use_hash_policy"] = True
            action["hash_policy"] = [_hash_of(users)]
        if shadow:
            action["request_mirror_policies"] = [
                {
                    "cluster": cluster_name(endpoint, shadow["variant"], protocol),
                    "runtime_fraction": {
                        "default_value": {
                            "numerator": round(shadow["percent"] * 10_000),
                            "denominator": "MILLION",
                        }
                    },
                }
            ]
        shares.append({"match": _match(protocol, []), "route": action})
    return {
        "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
        "name": endpoint,
        "virtual_hosts": [
            {
                "name": endpoint,
                "domains": ["*"],
                "request_body_buffer_limit": BUFFER_BYTES,
                # Who asks for a variant by name must not get another one by chance.
                "routes": [*pins, _unknown_pin(endpoint, list(weights), pin_header), *shares],
            }
        ],
    }


def _hash_of(users: Mapping[str, str]) -> Json:
    if "cookie" in users:
        return {"cookie": {"name": users["cookie"]}}
    return {"header": {"header_name": users["header"]}}


def weights(routes: Json) -> dict[str, int]:
    """The weights by variant that a file with the one route configuration of an endpoint holds."""
    split = routes["resources"][0]["virtual_hosts"][0]["routes"][-1]["route"]["weighted_clusters"]
    return {cluster["name"].split("/")[1]: cluster["weight"] for cluster in split["clusters"]}


def reweighted(route: Json, weights: Mapping[str, int]) -> Json:
    """A route configuration with other weights for the variants that it has, and all else as it was.

    Raises:
        ValueError: requests are to go to a variant that it has not.
    """
    changed: Json = json.loads(json.dumps(route))
    for shared in changed["virtual_hosts"][0]["routes"][-len(_PROTOCOLS) :]:
        clusters = {
            one["name"].split("/")[1]: one for one in shared["route"]["weighted_clusters"]["clusters"]
        }
        missing = [name for name, share in weights.items() if share and name not in clusters]
        if missing:
            raise ValueError(f"endpoint {route['name']} has no variant {', '.join(missing)} in the gateway")
        for name, cluster in clusters.items():
            cluster["weight"] = weights.get(name, 0)
    return changed


def _unknown_pin(endpoint: str, variants: Sequence[str], pin_header: str) -> Json:
    message = (
        f"endpoint {endpoint} has no variant of the name in header {pin_header}; it has {', '.join(variants)}"
    )
    return {
        "match": {"prefix": "/", "headers": [{"name": pin_header, "present_match": True}]},
        "direct_response": {"status": 404, "body": {"inline_string": message}},
    }


def _match(protocol: str, headers: Sequence[Json]) -> Json:
    grpc: Sequence[Json] = [{"name": "content-type", "string_match": {"prefix": "application/grpc"}}]
    return {"prefix": "/", "headers": [*headers, *grpc] if protocol == "grpc" else [*headers]}


def _split(endpoint: str, weights: Mapping[str, int], protocol: str, stand_in: str | None = None) -> Json:
    split = []
    for variant, weight in weights.items():
        cluster, headers = cluster_name(endpoint, variant, protocol), {"x-variant": variant}
        if stand_in and variant != stand_in:
            cluster = _backed_name(endpoint, variant, stand_in, protocol)
            # Only the replica that answered can tell; a header without a value is not sent.
            headers = {"x-variant": _told("variant"), "x-degraded": _told("stands-in")}
        split.append(
            {
                "name": cluster,
                "weight": weight,
                "response_headers_to_add": [_header(key, value) for key, value in headers.items()],
            }
        )
    return {"weighted_clusters": {"clusters": split}}


def _told(name: str) -> str:
    return f"%UPSTREAM_METADATA({_METADATA}:{name})%"


def _header(key: str, value: str) -> Json:
    # A server that stands in may have had to fall back itself: then there are two reasons.
    action = "APPEND_IF_EXISTS_OR_ADD" if key == "x-degraded" else "OVERWRITE_IF_EXISTS_OR_ADD"
    return {"header": {"key": key, "value": value}, "append_action": action}


def _stand_in_policy(timeout_seconds: float) -> Json:
    """What fails in one place is asked for once more, in the other: also what was answered with a fault of
    the server's, or takes four fifths of the time that there is."""
    return {
        "retry_on": "5xx,retriable-status-codes,internal,unavailable,deadline-exceeded",
        "retriable_status_codes": [429],
        "num_retries": 1,
        "per_try_timeout": f"{timeout_seconds * 0.8:g}s",
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
        **_OTHER_HOSTS,
    }


_OTHER_HOSTS: Json = {
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    # Taking turns, with others asking meanwhile, may lead back to a host that has failed this request.
    "host_selection_retry_max_attempts": 32,
}


def _retry_policy(retries: int) -> Json:
    # Inference changes nothing, so a request that was cut off may be sent again. Answers of a server,
    # errors included, are not retried: 429 and 503 tell the client when to come back.
    return {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": retries,
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
        **_OTHER_HOSTS,
    }


def endpoints(
    name: str, numbers: Sequence[int], health: Sequence[int], told: Mapping[str, str] | None = None
) -> Json:
    """Where the replicas of one process group listen: the form in which EDS is read from a file.

    Args:
        name: the name that a cluster asks for.
        numbers: the port of each replica.
        health: the port on which each replica says whether it is ready.
        told: what clients may be told of them: see `route_configuration`.
    """
    metadata: Json = {"metadata": {"filter_metadata": {_METADATA: dict(told)}}} if told else {}
    replicas = [
        {"endpoint": {"address": _address(number), "health_check_config": {"port_value": port}}, **metadata}
        for number, port in zip(numbers, health, strict=True)
    ]
    return discovery(
        [
            {
                "@type": f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": replicas}],
                "policy": {"overprovisioning_factor": _ALL_OR_NOTHING},
            }
        ]
    )


def discovery(resources: Sequence[Json]) -> Json:
    """The file form of a discovery response.

    Its version is the digest of what it says: Envoy repeats it once it has accepted the response.
    """
    version = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:16]
    return {"version_info": version, "resources": list(resources)}


def _file(path: str) -> Json:
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


def _address(port: int | str) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
