"""How much a drifted resource can hurt a service, and why: by type and attribute names. Pure.

The weights are seeds, not measurements: they order a list for a person and for the incident's
evidence, and nothing acts on them alone. 1 is the most that can be said of any drift.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from mcp_devops.model.surroundings import DriftArea as Area


class Weight(NamedTuple):
    """A judgement on one drifted resource."""

    area: Area
    """What it touches."""
    weight: float
    """0 to 1."""
    reason: str
    """One line for a person."""


class _Rule(NamedTuple):
    area: Area
    weight: float
    kind: re.Pattern[str] | None
    attribute: re.Pattern[str] | None
    reason: str


def _words(text: str) -> re.Pattern[str]:
    """Any of the words as a whole part of a snake_case name."""
    return re.compile(rf"(?:^|[_.\]])(?:{text})(?:$|[_.\[])")


_RULES = (
    _Rule(
        Area.IMAGE, 0.9, None,
        _words("image|image_id|image_uri|images|ami|container_definitions|task_definition"
               "|s3_object_version|source_code_hash|chart|app_version"),
        "another image or build runs than the configuration says",
    ),
    _Rule(
        Area.DNS, 0.85,
        _words("dns|route53|zone|recordset|record_set|domain_name|custom_domain|acm"
               "|certificate"),
        None,
        "names or certificates that clients resolve and check differ",
    ),
    _Rule(
        Area.NETWORK, 0.8,
        _words("security_group|security_group_rule|network|networking|subnet|subnetwork|route"
               "|route_table|vpc|vnet|firewall|lb|alb|elb|nlb|listener|target_group|ingress"
               "|gateway|nat|peering|nsg|acl|proxy|service_mesh|load_balancer|forwarding_rule"),
        None,
        "what may reach the service, or what it may reach, differs",
    ),
    _Rule(
        Area.CAPACITY, 0.8, _words("autoscaling|appautoscaling|autoscaler|scaling_policy"), None,
        "how the service scales differs",
    ),
    _Rule(
        Area.CAPACITY, 0.8, None,
        _words("replicas|desired_count|desired_capacity|desired_size|min_size|max_size"
               "|min_capacity|max_capacity|node_count|instance_count|num_cache_nodes"
               "|instance_type|instance_class|machine_type|vm_size|memory|memory_size|cpu"
               "|limits|requests|allocated_storage|concurrency|throughput|iops"),
        "the service has other capacity than the configuration says",
    ),
    _Rule(
        Area.ACCESS, 0.7,
        _words("iam|role|role_binding|policy|permission|service_account|kms|secret|access"
               "|access_key|identity"),
        None,
        "an identity may do other things than the configuration says",
    ),
    _Rule(
        Area.NETWORK, 0.7, None,
        _words("ingress|egress|cidr_block|cidr_blocks|security_groups|vpc_security_group_ids"
               "|subnet_ids|port|ports|target_port|from_port|to_port|allow|deny|network_interface"),
        "ports, addresses or network membership differ",
    ),
    _Rule(
        Area.ACCESS, 0.6, None,
        _words("policy|policy_arn|assume_role_policy|role_arn|iam_instance_profile"
               "|service_account_name|execution_role_arn"),
        "the identity it runs with, or a policy, differs",
    ),
)  # fmt: skip

_LABELS = re.compile(
    r"^(?:tags|tags_all|labels|annotations|effective_labels|description)(?:$|[.\[])"
)
_BOOKKEEPING = re.compile(
    r"(?:^|[_.])(?:etag|resource_version|generation|last_modified|updated_at|update_time"
    r"|metageneration|self_link|fingerprint)$"
)
DELETED = 0.9
"""Least weight of a resource that is gone, whatever it was."""
UNKNOWN = 0.3
"""Weight of a change that no rule knows."""


def weigh(kind: str, action: str, paths: Sequence[str]) -> Weight:
    """Judge a drifted resource.

    Args:
        kind: Resource type, as aws_security_group.
        action: `update`, or `delete` where the resource is gone.
        paths: Attributes that differ.
    """
    gone = action == "delete"
    telling = [p for p in paths if not _LABELS.match(p) and not _BOOKKEEPING.search(p)]
    if not gone and paths and not telling:
        return Weight(Area.OTHER, 0.1, "only labels or bookkeeping fields differ")
    best = Weight(Area.OTHER, UNKNOWN, "no known way to hurt a service; see the values")
    for rule in _RULES:
        if rule.weight > best.weight and _fits(rule, kind, () if gone else telling):
            best = Weight(rule.area, rule.weight, rule.reason)
    if gone:
        return Weight(best.area, max(DELETED, best.weight), f"it is gone: {_GONE[best.area]}")
    return best


_GONE = {
    Area.IMAGE: "nothing runs from it",
    Area.CAPACITY: "its capacity is missing",
    Area.NETWORK: "a part of the network path is missing",
    Area.ACCESS: "what relied on this identity or right fails",
    Area.DNS: "names or certificates no longer resolve or check",
    Area.OTHER: "what depends on it fails",
}


def _fits(rule: _Rule, kind: str, paths: Sequence[str]) -> bool:
    if rule.kind is not None:
        return rule.kind.search(kind) is not None
    return rule.attribute is not None and any(rule.attribute.search(p) for p in paths)
