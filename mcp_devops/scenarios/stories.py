"""What is staged on a real cluster to record a scenario: services, releases, and when.

Only the recorder reads this. The faults are set through ConfigMaps (`FAIL_RATE`, `LATENCY_MS`,
`CRASH_AFTER_S`, ...), so the recorded pod templates hold nothing but what a release changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NAMESPACE = "shop"


@dataclass(frozen=True)
class Release:
    """One version of a service.

    Attributes:
        version: Tag of its image and value of VERSION.
        config: What its ConfigMap holds.
        image: Image name without tag; None: `shop/<service>`.
    """

    version: str
    config: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None


@dataclass(frozen=True)
class Service:
    """One Deployment and its releases.

    Attributes:
        name: Of the Deployment, the container and the metric label.
        before: What runs when the recording begins.
        after: What is rolled out; None for a neighbour.
        replicas: Pods.
        min_ready_s: Seconds a pod must be ready before the rollout goes on.
        surge: Pods above `replicas` during a rollout.
        path: Request path in its log lines.
    """

    name: str
    before: Release
    after: Release | None = None
    replicas: int = 3
    min_ready_s: int = 0
    surge: int = 1
    path: str = "/"


@dataclass(frozen=True)
class Story:
    """One recording.

    Attributes:
        name: Of the scenario and its folder.
        services: The judged one first, then its neighbours.
        warm_up_s: Seconds of traffic before the rollout.
        bad_s: Seconds between the rollout and the look.
        after_s: Seconds recorded after the rollback.
        scale_to: Pods that somebody leaves of the judged service after the rollout; None: all.
        scale_at_s: Seconds after the rollout at which that happens.
        ahead_s: Seconds that the neighbours run before the judged service is deployed: their own
            deployment then lies more than 15 minutes before its rollout.
    """

    name: str
    services: tuple[Service, ...]
    warm_up_s: float = 150
    bad_s: float = 85
    after_s: float = 150
    ahead_s: float = 0
    scale_to: int | None = None
    scale_at_s: float = 0

    @property
    def subject(self) -> Service:
        """The service under judgement."""
        return self.services[0]


CATALOG = Service("catalog", Release("4.4.0", {"LATENCY_MS": "14"}), replicas=2, path="/products")
SHIPPING = Service("shipping", Release("1.12.3", {"LATENCY_MS": "9"}), replicas=2, path="/quotes")

UPSTREAM_DOWN = {"FAIL_RATE": "0.42", "LATENCY_MS": "16"}
BANK = "upstream bank-gateway: dial tcp 203.0.113.7:443: i/o timeout"


def _failing(after_s: int) -> dict[str, str]:
    return {**UPSTREAM_DOWN, "DEGRADE_AFTER_S": str(after_s), "ERROR_TEXT": BANK}


STORIES: Mapping[str, Story] = {
    s.name: s
    for s in (
        Story(
            "error-spike",
            (
                Service(
                    "payments",
                    Release("2.3.1", {"LATENCY_MS": "12"}),
                    Release(
                        "2.4.0",
                        {
                            "LATENCY_MS": "55",
                            "FAIL_RATE": "0.22",
                            "ERROR_TEXT": "NullPointerException: refund.method is nil at"
                            " charge.go:118",
                        },
                    ),
                    replicas=4,
                    min_ready_s=30,
                    path="/charge",
                ),
                CATALOG,
                SHIPPING,
            ),
            bad_s=88,
            after_s=170,
        ),
        Story(
            "crash-loop",
            (
                Service(
                    "cart",
                    Release("1.8.2", {"LATENCY_MS": "10"}),
                    Release("1.9.0", {"LATENCY_MS": "10", "CRASH_AFTER_S": "2"}),
                    min_ready_s=8,
                    path="/cart",
                ),
                CATALOG,
                SHIPPING,
            ),
            bad_s=120,
            after_s=90,
        ),
        Story(
            "image-pull",
            (
                Service(
                    "search",
                    Release("3.0.0", {"LATENCY_MS": "20"}),
                    Release(
                        "3.1.0-rc1", {"LATENCY_MS": "20"}, image="registry.shop.example/search"
                    ),
                    path="/search",
                ),
                CATALOG,
                SHIPPING,
            ),
            bad_s=200,
            after_s=90,
        ),
        Story(
            "upstream-outage",
            (
                Service(
                    "orders",
                    Release("5.1.0", {**_failing(180)}),
                    Release("5.2.0", {**_failing(28)}),
                    replicas=4,
                    min_ready_s=150,
                    surge=2,
                    path="/orders",
                ),
                Service("payments", Release("2.3.1", _failing(968)), replicas=2, path="/charge"),
                Service("cart", Release("1.8.2", _failing(968)), replicas=2, path="/cart"),
                CATALOG,
            ),
            bad_s=130,
            after_s=120,
            ahead_s=780,
        ),
        Story(
            "slow-after-scaling",
            (
                Service(
                    "pricing",
                    Release("6.1.0", {"DEGRADE_AFTER_S": "100000"}),
                    Release("6.2.0", {"LATENCY_MS": "60", "DEGRADE_AFTER_S": "48"}),
                    replicas=4,
                    surge=2,
                    path="/quotes",
                ),
                CATALOG,
                SHIPPING,
            ),
            bad_s=150,
            after_s=90,
            scale_to=2,
            scale_at_s=52,
        ),
        Story(
            "vulnerable-image",
            (
                Service(
                    "profile",
                    Release("2.0.3", {"LATENCY_MS": "12"}),
                    Release("2.1.0", {"LATENCY_MS": "12"}),
                    min_ready_s=10,
                    path="/profile",
                ),
                CATALOG,
                SHIPPING,
            ),
            bad_s=170,
            after_s=90,
        ),
    )
}
"""Every story that can be recorded."""


def config_map(service: Service, release: Release) -> dict[str, Any]:
    """The ConfigMap that holds a release's configuration and faults."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_name(service, release), "namespace": NAMESPACE},
        "data": {"REQUEST_PATH": service.path, **release.config},
    }


def config_name(service: Service, release: Release) -> str:
    """Name of a release's ConfigMap: one for each version, as good practice has it."""
    return f"{service.name}-{release.version.replace('.', '-')}"


def template(service: Service, release: Release) -> dict[str, Any]:
    """The pod template of a release, for the loopback test service."""
    return {
        "metadata": {"labels": {"app": service.name}},
        "spec": {
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": service.name,
                    "image": f"{release.image or f'shop/{service.name}'}:{release.version}",
                    "imagePullPolicy": "IfNotPresent",
                    "envFrom": [{"configMapRef": {"name": config_name(service, release)}}],
                    "env": [
                        {"name": "SERVICE", "value": service.name},
                        {"name": "VERSION", "value": release.version},
                        {
                            "name": "POD_NAME",
                            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                        },
                    ],
                    "readinessProbe": {
                        "exec": {"command": ["/bin/shop", "healthcheck"]},
                        "periodSeconds": 2,
                        "failureThreshold": 2,
                        "timeoutSeconds": 3,
                    },
                    "volumeMounts": [{"name": "targets", "mountPath": "/targets"}],
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "16Mi"},
                        "limits": {"memory": "64Mi"},
                    },
                }
            ],
            "volumes": [{"name": "targets", "hostPath": {"path": "/run/test-cluster/targets"}}],
        },
    }


def deployment(service: Service) -> dict[str, Any]:
    """The Deployment with the release that runs first."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": service.name,
            "namespace": NAMESPACE,
            "labels": {"app": service.name},
        },
        "spec": {
            "replicas": service.replicas,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 60 + service.min_ready_s,
            "minReadySeconds": service.min_ready_s,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": service.surge, "maxUnavailable": 0},
            },
            "selector": {"matchLabels": {"app": service.name}},
            "template": template(service, service.before),
        },
    }
