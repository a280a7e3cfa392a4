"""What it costs: prices of us-east-1 in USD, from AWS's public pages of 2026 unless a comment differs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.capacity.fleet import Mode

HOURS = 730  # a month
SECONDS = HOURS * 3600

FARGATE_VCPU, FARGATE_GB = 0.03238, 0.00356  # an hour, ARM
FARGATE_MEMORY = 2  # GB, the least that a task of one vCPU may have; hello needs 0.06
C7G_LARGE, T4G_SMALL = 0.0725, 0.0168  # an hour; from memory
GP3 = 0.08  # GB and month; from memory
SPOT = {"fargate": 0.3, "ec2": 0.4}  # of the price on demand; assumed: Spot prices vary by zone and day
ALB, LCU = 0.0225, 0.008  # an hour; the LCU from memory
ENDPOINT = 0.01  # an hour and zone; the gateway endpoint of DynamoDB is free
READ, WRITE = 0.125e-6, 0.625e-6  # a unit on demand; from memory
RCU, WCU = 0.00013, 0.00065  # an hour, provisioned; from memory
STORAGE, RECOVERY = 0.25, 0.20  # GB and month: the table, and its point-in-time recovery; from memory
EGRESS = (
    (10e3, 0.09),
    (40e3, 0.085),
    (100e3, 0.07),
    (math.inf, 0.05),
)  # GB and month, and USD a GB; from memory

DETAILED = 7 * 0.30  # a month and instance: CPU and others by the minute; from memory
SECRET = 0.40  # a month; from memory

ROOT_GB, ETCD_GB = 8, 4
ETCD_MEMBERS, ETCD_SECRETS = 3, 3
ZONES, ENDPOINTS, MORE_ENDPOINTS = 3, 4, 2  # infra/endpoints.tf: for tasks, and for instances besides
PROVISIONED_USE = 0.7  # of what is provisioned, when it is scaled automatically

# Seconds from the decision to the first request. Others measured 53 to 62 for a task with an image of 413 MB,
# and 22 to 29 from the call to a login for instances; hello starts in 0.5. Two health checks of 10 s follow.
FARGATE_START, EC2_START, HEALTHY = 50, 40, 20
# One vCPU is one process. c7g.large has two, and so two workers.
FARGATE = Mode("fargate", "Fargate", 1, FARGATE_START + HEALTHY, FARGATE_VCPU + FARGATE_MEMORY * FARGATE_GB)
EC2 = Mode("ec2", "EC2", 2, EC2_START + HEALTHY, C7G_LARGE + (ROOT_GB * GP3 + DETAILED) / HOURS)
MODES = (FARGATE, EC2)


@dataclass(frozen=True)
class Load:
    """What is asked of the service, all the time."""

    rate: float  # requests/s
    writes: float = 0.05  # share of them that register somebody new or another year; assumed
    a_connection: float = 10  # requests; assumed
    bytes_in: float = 300  # a request, as the load balancer counts it; assumed
    bytes_out: float = 400  # an answer: 305, and what TLS and the load balancer add
    people: float = 1e6

    @property
    def reads_a_second(self) -> float:
        """Units of DynamoDB, all consistent."""
        return self.rate * (1 - self.writes)

    @property
    def writes_a_second(self) -> float:
        """Units of DynamoDB: one for the table, one for the index."""
        return 2 * self.rate * self.writes


def compute(mode: Mode, instances: float, spot: float = 0.0) -> float:
    """Return USD a month for instances, of which a share is Spot."""
    beside = (ROOT_GB * GP3 + DETAILED) / HOURS if mode is EC2 else 0.0  # which Spot doesn't change
    price = (mode.price - beside) * (1 - spot + spot * SPOT[mode.key]) + beside
    return instances * price * HOURS


def around(mode: Mode) -> float:
    """Return USD a month for what EC2 alone has: etcd's members with two volumes each, secrets, endpoints."""
    if mode is not EC2:
        return 0.0
    members = ETCD_MEMBERS * (T4G_SMALL * HOURS + (ROOT_GB + ETCD_GB) * GP3)
    return members + ETCD_SECRETS * SECRET + MORE_ENDPOINTS * ZONES * ENDPOINT * HOURS


def instances(mode: Mode, rate: float, requests: float, minimum: int) -> int:
    """Return how many instances target tracking keeps: `requests` a vCPU and minute."""
    return max(minimum, math.ceil(rate * 60 / requests / mode.vcpus))


def break_even(cheaper: Callable[[float], bool], highest: float = 2e6, step: float = 500) -> float | None:
    """Return the rate from which on EC2 stays cheaper, up to the highest looked at; None: nowhere."""
    found = None
    for number in range(int(highest / step), 0, -1):
        if not cheaper(number * step):
            break
        found = number * step
    return found


def lcus(load: Load) -> float:
    """Return the load balancer's capacity units: the highest of connections a second and GB an hour."""
    connections = load.rate / load.a_connection / 25
    return max(connections, load.rate * (load.bytes_in + load.bytes_out) * 3600 / 1e9)


def balancing(load: Load) -> float:
    """Return USD a month for the load balancer."""
    return (ALB + lcus(load) * LCU) * HOURS


def on_demand(load: Load) -> float:
    """Return USD a month for DynamoDB's units, paid a request."""
    return (load.reads_a_second * READ + load.writes_a_second * WRITE) * SECONDS


def provisioned(load: Load) -> float:
    """Return the same with provisioned capacity."""
    return (load.reads_a_second * RCU + load.writes_a_second * WCU) / PROVISIONED_USE * HOURS


def gigabytes(people: float) -> float:
    """Return what people take in the table and its index, with DynamoDB's own 100 bytes an item."""
    return 2 * people * (80 + 100) / 1e9


def storage(people: float) -> float:
    """Return USD a month for keeping people, and every second of the last 35 days."""
    return gigabytes(people) * (STORAGE + RECOVERY)


def egress(load: Load) -> float:
    """Return USD a month for answers that leave AWS."""
    left, total = load.rate * load.bytes_out * SECONDS / 1e9, 0.0
    for size, price in EGRESS:
        total += min(left, size) * price
        left -= min(left, size)
    return total


def endpoints() -> float:
    """Return USD a month for the interface endpoints that both modes have."""
    return ENDPOINTS * ZONES * ENDPOINT * HOURS
