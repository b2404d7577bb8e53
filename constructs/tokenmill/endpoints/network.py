"""Where an endpoint's containers stand in a VPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from aws_cdk import aws_ec2 as ec2


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointNetwork:
    """Subnets and security groups of an endpoint.

    The containers fetch weights from the Hugging Face Hub, so the subnets need a way out (NAT).

    Args:
        subnet_ids: 1 to 16 subnets, better in several zones.
        security_group_ids: 1 to 5 security groups.

    Raises:
        TokenmillError: If there are too few or too many ("VpcConfig", Amazon SageMaker API Reference).
    """

    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("subnet_ids", "security_group_ids"):
            given = getattr(self, name)
            if not isinstance(given, list | tuple) or any(not isinstance(item, str) for item in given):
                raise TokenmillError(f"{name} is {given!r:.80}; give a tuple of ids, such as ('subnet-1',)")
            object.__setattr__(self, name, tuple(given))
        if not 1 <= len(self.subnet_ids) <= 16:
            raise TokenmillError(f"subnet_ids has {len(self.subnet_ids)}; give 1 to 16 subnets")
        if not 1 <= len(self.security_group_ids) <= 5:
            raise TokenmillError(
                f"security_group_ids has {len(self.security_group_ids)}; give 1 to 5 security groups"
            )

    @classmethod
    def of(
        cls,
        vpc: ec2.IVpc,
        *,
        security_groups: tuple[ec2.ISecurityGroup, ...],
        subnets: ec2.SubnetSelection | None = None,
    ) -> Self:
        """Return the network of a VPC.

        Args:
            vpc: The VPC.
            security_groups: What the containers may reach.
            subnets: Which subnets; the private ones with a way out otherwise.
        """
        chosen = vpc.select_subnets(
            availability_zones=None if subnets is None else subnets.availability_zones,
            one_per_az=None if subnets is None else subnets.one_per_az,
            subnet_group_name=None if subnets is None else subnets.subnet_group_name,
            subnets=None if subnets is None else subnets.subnets,
            subnet_type=None if subnets is None else subnets.subnet_type,
        )
        return cls(
            subnet_ids=tuple(chosen.subnet_ids),
            security_group_ids=tuple(group.security_group_id for group in security_groups),
        )
