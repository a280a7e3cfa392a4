"""A load balancer in an emulated AWS, as little of one as there can be, for what is served behind it."""

from typing import Any

import boto3


def clients(endpoint: str, *names: str) -> list[Any]:
    """Return clients of the emulated AWS."""
    return [boto3.client(name, "us-east-1", endpoint_url=endpoint) for name in names]


def subnets(ec2: Any) -> list[str]:
    """Return two of the subnets that each account has."""
    return [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]


def balanced(ec2: Any, elb: Any, kind: str, delay: int, group: dict[str, Any]) -> str:
    """Make a load balancer with a target group of a kind; return the ARN of that."""
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    balancer = elb.create_load_balancer(Name="hello", Subnets=subnets(ec2))["LoadBalancers"][0]
    made = elb.create_target_group(
        Name="hello", VpcId=vpc, Port=5000, Protocol="HTTP", TargetType=kind, **group
    )
    arn = str(made["TargetGroups"][0]["TargetGroupArn"])
    attribute = {"Key": "deregistration_delay.timeout_seconds", "Value": str(delay)}
    elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[attribute])
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Port=5000,
        Protocol="HTTP",
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )
    return arn
