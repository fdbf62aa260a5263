"""Who may do what: ACLs and SCRAM credentials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mqlog.client.admin.base import AdminBase, check, outcome
from mqlog.client.admin.types import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from mqlog.errors import IllegalArgumentError, KafkaError, NoError
from mqlog.protocol.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
)
from mqlog.protocol.create_acls import CreateAclsRequest, CreateAclsResponse
from mqlog.protocol.delete_acls import DeleteAclsRequest, DeleteAclsResponse
from mqlog.protocol.describe_acls import DescribeAclsRequest, DescribeAclsResponse
from mqlog.protocol.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
)

#: The first version of the ACL requests that knows users.
_USERS = 3


class AccessAdmin(AdminBase):
    """The administrator's methods about access."""

    def describe_acls(self, acl_filter: ACLFilter) -> tuple[list[ACL], type[KafkaError]]:
        """The grants that match, and NoError; SecurityDisabledError without an authorizer."""
        pattern = acl_filter.resource_pattern
        request = DescribeAclsRequest(
            pattern.resource_type,
            pattern.resource_name,
            pattern.pattern_type,
            acl_filter.principal,
            acl_filter.host,
            acl_filter.operation,
            acl_filter.permission_type,
        )
        flow = self._ask(request, oldest=_oldest(acl_filter))
        answer: DescribeAclsResponse = self._run(flow, "describing ACLs")
        check(answer.error_code, answer.error_message)
        return [
            _acl(one, resource) for resource in answer.resources for one in resource.acls
        ], NoError

    def create_acls(self, acls: Iterable[ACL]) -> dict[str, list[Any]]:
        """Grants or denies; `succeeded` lists ACLs, `failed` the classes of errors."""
        given = list(acls)
        if not all(isinstance(acl, ACL) for acl in given):
            raise IllegalArgumentError("acls must be ACLs")
        creations = [
            CreateAclsRequest.AclCreation(
                acl.resource_pattern.resource_type,
                acl.resource_pattern.resource_name or "",
                acl.resource_pattern.pattern_type,
                acl.principal or "",
                acl.host or "",
                acl.operation,
                acl.permission_type,
            )
            for acl in given
        ]
        flow = self._ask(CreateAclsRequest(creations), oldest=_oldest(*given))
        answer: CreateAclsResponse = self._run(flow, "creating ACLs")
        found: dict[str, list[Any]] = {"succeeded": [], "failed": []}
        for acl, told in zip(given, answer.results, strict=True):
            if told.error_code:
                found["failed"].append(outcome(told.error_code))
            else:
                found["succeeded"].append(acl)
        return found

    def delete_acls(
        self, acl_filters: Iterable[ACLFilter]
    ) -> list[tuple[ACLFilter, list[ACL], type[KafkaError]]]:
        """Takes back what matches: (filter, ACLs, the error's class or NoError) for each filter."""
        given = list(acl_filters)
        if not all(isinstance(one, ACLFilter) for one in given):
            raise IllegalArgumentError("acl_filters must be ACLFilters")
        filters = [
            DeleteAclsRequest.DeleteAclsFilter(
                one.resource_pattern.resource_type,
                one.resource_pattern.resource_name,
                one.resource_pattern.pattern_type,
                one.principal,
                one.host,
                one.operation,
                one.permission_type,
            )
            for one in given
        ]
        flow = self._ask(DeleteAclsRequest(filters), oldest=_oldest(*given))
        answer: DeleteAclsResponse = self._run(flow, "deleting ACLs")
        return [
            (
                one,
                [_acl(acl, acl) for acl in told.matching_acls],
                outcome(told.error_code),
            )
            for one, told in zip(given, answer.filter_results, strict=True)
        ]

    def describe_user_scram_credentials(
        self, users: Iterable[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Mechanism and iterations of these users' credentials, or of all: by user."""
        kind = DescribeUserScramCredentialsRequest.UserName
        wanted = None if users is None else [kind(user) for user in users]
        flow = self._ask(DescribeUserScramCredentialsRequest(wanted))
        answer: DescribeUserScramCredentialsResponse = self._run(flow, "describing credentials")
        check(answer.error_code, answer.error_message)
        return {
            told.user: {
                "error": told.error_message if told.error_code else None,
                "credential_infos": [
                    {"mechanism": ScramMechanism(one.mechanism), "iterations": one.iterations}
                    for one in told.credential_infos
                ],
            }
            for told in answer.results
        }

    def alter_user_scram_credentials(self, alterations: Iterable[Any]) -> dict[str, str | None]:
        """Sets and deletes credentials; None or what was wrong, by user."""
        kind = AlterUserScramCredentialsRequest
        request = kind()
        for one in alterations:
            if isinstance(one, UserScramCredentialDeletion):
                request.deletions.append(kind.ScramCredentialDeletion(one.user, one.mechanism))
            elif isinstance(one, UserScramCredentialUpsertion):
                request.upsertions.append(
                    kind.ScramCredentialUpsertion(
                        one.user, one.mechanism, one.iterations, one.salt, one.salted_password
                    )
                )
            else:
                raise IllegalArgumentError(
                    f"{one!r} is no UserScramCredentialUpsertion or Deletion"
                )
        flow = self._ask_controller(
            request, lambda answer: [told.error_code for told in answer.results]
        )
        answer: AlterUserScramCredentialsResponse = self._run(flow, "altering credentials")
        return {
            told.user: told.error_message if told.error_code else None for told in answer.results
        }


def _oldest(*filters: ACLFilter) -> int:
    kinds = [one.resource_pattern.resource_type for one in filters]
    return _USERS if ResourceType.USER in kinds else 0


def _acl(told: Any, resource: Any) -> ACL:
    pattern = ResourcePattern(
        ResourceType(resource.resource_type),
        resource.resource_name,
        ACLResourcePatternType(resource.pattern_type),
    )
    return ACL(
        told.principal,
        told.host,
        ACLOperation(told.operation),
        ACLPermissionType(told.permission_type),
        pattern,
    )
