"""What large loads need and cost, and at which load each part comes to its limit."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.capacity import cost
from bench.capacity.cost import EC2, FARGATE, Load
from bench.capacity.curve import curve, kept_costs, measured
from bench.capacity.fleet import Policy

FEED_PAGE, SHARDS = 500, 16  # as hello has them, which a test compares
POLICY = Policy(requests=60_000, cpu=0.8, minimum=2, maximum=1_000)

# Of the client of DynamoDB, in bench/results/2026-11-24-stores.md: a request, and each of 32 people in one.
CLIENT_ALONE, CLIENT_SHARED = 250.1e-6, 12.5e-6
FEED_PEOPLE = 1_000

NEW_TABLE_READS, NEW_TABLE_WRITES = 12_000, 4_000  # units a second of a new table on demand (AWS)
TABLE_UNITS = 40_000  # reads, and writes, a second: the quota of a table on demand (AWS)
PARTITION_READS, PARTITION_WRITES = 3_000, 1_000  # units a second (AWS)
ALB_TARGETS, ALB_LCUS = 1_000, 15_000  # quotas of a load balancer (AWS)
FARGATE_VCPUS, EC2_VCPUS = 6, 5  # what a new account may have running; from memory
ETCD_VCPUS = 2  # of a t4g.small, whose credits let it use a fifth of them all the time
ETCD_BASELINE = 0.2
HEARD_EVERY = 4.5  # seconds, on average: a keepalive, and a look at the record, after 4 to 5 s


def feed_work(people: int = FEED_PEOPLE) -> float:
    """Return what a calendar feed from DynamoDB takes, in greetings of a busy process."""
    pages = people // FEED_PAGE + 1
    queries = pages * SHARDS * CLIENT_ALONE
    decoding = people * (CLIENT_SHARED - CLIENT_ALONE / 32)
    formatting = people / FEED_PEOPLE * measured()["feed_cpu"]
    return float((queries + decoding + formatting) / kept_costs().request)


def capacity() -> float:
    """Return how many requests a second a vCPU answers before it refuses any."""
    return max(point.load for point in curve() if point.answered == 1.0)


@dataclass(frozen=True)
class Level:
    """A load, all day and night."""

    title: str
    load: Load


BILLION = 1e9
LEVELS = (
    Level("1,000/s", Load(1e3)),
    Level("10,000/s", Load(1e4, people=1e7)),
    Level("100,000/s", Load(1e5, people=1e8)),
    Level("1,000,000/s", Load(1e6, people=BILLION)),
    Level("a billion people, once a day each", Load(BILLION / 86_400, people=BILLION)),
)


def registrations(instances: float) -> float:
    """Return how many requests a second so many instances send to etcd to stay there."""
    return 2 * instances / HEARD_EVERY


def etcd_instances() -> float:
    """Return how many instances a member keeps with what it may use all the time, if all talk to one."""
    return float(HEARD_EVERY * ETCD_VCPUS * ETCD_BASELINE / measured()["etcd_registration_cpu"])


def index_shards(load: Load, units: int) -> int:
    """Return how many shards the index of birthdays needs, where a write takes so many units of it."""
    return max(1, math.ceil(load.rate * load.writes * units / PARTITION_WRITES))


def total(load: Load, compute: float, dynamodb: float) -> float:
    """Return USD a month for everything."""
    rest = cost.balancing(load) + cost.storage(load.people) + cost.egress(load) + cost.endpoints()
    return compute + dynamodb + rest


@dataclass(frozen=True)
class Limit:
    """A part that bears no more than so much. `of` tells the load of requests at which it is reached."""

    part: str
    bears: str
    of: Callable[[Load], float]
    more: str


def limits() -> Sequence[Limit]:
    """Return the limits, in the order in which a growing load meets them."""
    a_vcpu = POLICY.requests / 60
    lcus = cost.lcus(Load(1.0))
    found = [
        Limit(
            "DynamoDB: a new table, on demand",
            f"{NEW_TABLE_READS:,} reads and {NEW_TABLE_WRITES:,} writes a second",
            lambda load: min(NEW_TABLE_READS / (1 - load.writes), NEW_TABLE_WRITES / load.writes),
            "warm throughput of table and index; it costs once",
        ),
        Limit(
            "DynamoDB: one person",
            f"{PARTITION_READS:,} reads a second",
            lambda load: PARTITION_READS,
            "nothing: a partition is at its end; requests that a process answers together share a read",
        ),
        Limit(
            "EC2: quota of a new account",
            f"{EC2_VCPUS} vCPUs",
            lambda load: EC2_VCPUS // EC2.vcpus * EC2.vcpus * a_vcpu,
            "ask for more, days ahead",
        ),
        Limit(
            "Fargate: quota of a new account",
            f"{FARGATE_VCPUS} vCPUs",
            lambda load: FARGATE_VCPUS * a_vcpu,
            "ask for more, days ahead",
        ),
        Limit(
            "DynamoDB: quota of a table",
            f"{TABLE_UNITS:,} reads a second",
            lambda load: TABLE_UNITS / (1 - load.writes),
            "ask for more",
        ),
        Limit(
            "the index of birthdays",
            f"{SHARDS} shards of {PARTITION_WRITES:,} units a second",
            lambda load: SHARDS * PARTITION_WRITES / load.writes,
            "more shards: a new index, and each birthday page asks all of them",
        ),
        Limit(
            "load balancer: targets",
            f"{ALB_TARGETS:,} instances",
            lambda load: ALB_TARGETS * a_vcpu,
            "EC2: twice as far; larger tasks; ask for more",
        ),
        Limit(
            "load balancer: capacity reserved",
            f"{ALB_LCUS:,} LCUs",
            lambda load: ALB_LCUS / lcus,
            "fewer connections; a second load balancer",
        ),
        Limit(
            "etcd, three t4g.small",
            f"{etcd_instances():,.0f} instances",
            lambda load: etcd_instances() * EC2.vcpus * a_vcpu,
            "larger members; a longer lease",
        ),
    ]
    return sorted(found, key=lambda limit: limit.of(Load(1.0)))


def cheaper_on_ec2(spot_ec2: float = 0.0, spot_fargate: float = 0.0) -> Callable[[float], bool]:
    """Return whether EC2 costs less than Fargate at a rate, what it has around it included."""

    def cheaper(rate: float) -> bool:
        ours = [cost.instances(mode, rate, POLICY.requests, POLICY.minimum) for mode in (FARGATE, EC2)]
        on_ec2 = cost.compute(EC2, ours[1], spot_ec2) + cost.around(EC2)
        return on_ec2 < cost.compute(FARGATE, ours[0], spot_fargate)

    return cheaper
