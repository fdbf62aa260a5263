"""ACLs, SCRAM credentials: what a broker without an authorizer and without SASL answers."""

from __future__ import annotations

from typing import Any

from mqlog.broker import codes
from mqlog.broker.flow import Decision
from mqlog.broker.world import World

_NO_AUTHORIZER = "No Authorizer is configured."


def describe_acls(_world: World, _request: Any) -> Decision:
    """Answer DescribeAcls: there is no authorizer to ask."""
    from mqlog.protocol.describe_acls import DescribeAclsResponse as Response

    yield from ()
    return Response(
        error_code=codes.SECURITY_DISABLED,
        error_message="No Authorizer is configured on the broker",
    )


def create_acls(_world: World, request: Any) -> Decision:
    """Answer CreateAcls: none is made."""
    from mqlog.protocol.create_acls import CreateAclsResponse as Response

    yield from ()
    refused = Response.AclCreationResult(codes.SECURITY_DISABLED, _NO_AUTHORIZER)
    return Response(results=[refused] * len(request.creations))


def delete_acls(_world: World, request: Any) -> Decision:
    """Answer DeleteAcls: there are none."""
    from mqlog.protocol.delete_acls import DeleteAclsResponse as Response

    yield from ()
    refused = Response.DeleteAclsFilterResult(codes.SECURITY_DISABLED, _NO_AUTHORIZER)
    return Response(filter_results=[refused] * len(request.filters))


def describe_scram_credentials(_world: World, request: Any) -> Decision:
    """Answer DescribeUserScramCredentials: no user has any."""
    from mqlog.protocol.describe_user_scram_credentials import (
        DescribeUserScramCredentialsResponse as Response,
    )

    yield from ()
    times: dict[str, int] = {}
    for user in request.users or ():
        times[user.name] = times.get(user.name, 0) + 1
    results = []
    for name, count in times.items():
        result = Response.DescribeUserScramCredentialsResult(name, codes.RESOURCE_NOT_FOUND)
        result.error_message = f"Attempt to describe a user credential that does not exist: {name}"
        if count > 1:
            result.error_code = codes.DUPLICATE_RESOURCE
            result.error_message = (
                "Cannot describe SCRAM credentials for the same user twice in a single request: "
                f"{name}"
            )
        results.append(result)
    return Response(results=results)
