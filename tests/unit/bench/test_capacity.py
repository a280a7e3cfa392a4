"""The simulation of capacity: queues as theory has them, a process as measured, AWS's scaling, sums."""

import math
import re
from random import Random
from statistics import mean

import pytest

from bench.capacity import arrivals, cost, curve, scale, tables
from bench.capacity.arrivals import HOUR, MINUTE, Pattern
from bench.capacity.cost import EC2, FARGATE, HEALTHY
from bench.capacity.fleet import DRAIN, METRIC_DELAY, Mode, Policy, Run, run
from bench.capacity.station import (
    CHUNK,
    Costs,
    Limits,
    Outcome,
    Poisson,
    Thinking,
    histogram,
    percentile,
    percentile_of,
    simulate,
)
from hello.routes import FEED_PAGE
from hello.settings import Settings
from hello.stores.dynamodb import READ_CHUNK
from hello.stores.dynamodb_client import LEAST_CONNECTIONS
from hello.stores.dynamodb_items import SHARDS
from tests.support.environment import ROOT

SERVICE = 1e-3  # seconds
PAGE = ROOT / "docs" / "capacity.md"


def queue(load: float, limits: Limits, costs: Costs, seconds: float = 40.0) -> Outcome:
    """Simulate a process whose requests come at random; `load` is a second's share of `SERVICE`."""
    return simulate(Poisson(load / SERVICE, seconds, Random(1)), costs, limits, seconds, Random(2))


# Queueing theory


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_constant_work_one_by_one_is_an_m_d_1_queue(load: float) -> None:
    """The mean latency is Pollaczek and Khinchine's."""
    done = queue(load, Limits(most=1), Costs(0, SERVICE, 0))
    assert mean(done.latencies) == pytest.approx(SERVICE * (1 + load / (2 * (1 - load))), rel=0.04)
    assert done.busy == pytest.approx(load * done.seconds, rel=0.02)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_exponential_work_one_by_one_is_an_m_m_1_queue(load: float) -> None:
    """Mean and 99th percentile of the latency are those of the exponential distribution that it has."""
    done = queue(load, Limits(most=1, exponential=True), Costs(0, SERVICE, 0))
    expected = SERVICE / (1 - load)
    assert mean(done.latencies) == pytest.approx(expected, rel=0.05)
    assert percentile(sorted(done.latencies), 0.99) == pytest.approx(expected * math.log(100), rel=0.08)


def test_waiting_for_the_one_connection_is_an_m_d_1_queue() -> None:
    """Requests that cost nothing, and a store that takes one at a time, wait as in M/D/1."""
    done = queue(0.7, Limits(most=1, connections=1, turns=1), Costs(0, 0, 0, store=SERVICE))
    assert mean(done.latencies) == pytest.approx(SERVICE * (1 + 0.7 / (2 * 0.3)), rel=0.05)


@pytest.mark.parametrize(("offered", "most"), [(5.0, 5), (12.0, 10)])
def test_what_is_refused_is_erlangs_loss(offered: float, most: int) -> None:
    """Where the store does all the work, the share that finds no room is Erlang's formula B."""
    limits = Limits(max_in_flight=most, connections=1000)
    done = queue(offered, limits, Costs(0, 0, 0, store=SERVICE), 6.0)
    terms = [offered**n / math.factorial(n) for n in range(most + 1)]
    share = done.refused / (done.refused + len(done.latencies))
    assert share == pytest.approx(terms[-1] / sum(terms), rel=0.04)


def test_a_busy_process_shares_its_requests_to_the_store() -> None:
    """The more comes, the less each costs, down to what each costs alone; all is answered."""
    costs = Costs(batch=4e-4, request=2e-5, refusal=0, store=5e-3)
    each = [simulate(Poisson(rate, 1, Random(1)), costs, Limits(), 1).cpu for rate in (10, 1e3, 5e3, 2e4)]
    assert each == sorted(each, reverse=True)
    assert each[0] == pytest.approx(4.2e-4, rel=0.02)
    assert 2e-5 < each[-1] < 5.5e-5


def test_percentiles_of_a_histogram_are_near() -> None:
    """A bin is 6 % wide, and so is the error."""
    random = Random(3)
    values = sorted(random.expovariate(100) for _ in range(10_000))
    for share in (0.5, 0.99):
        exact = percentile(values, share)
        assert exact <= percentile_of(histogram(values), share) <= 1.06 * exact


# One process, as it was measured


def test_the_simulation_does_what_was_measured() -> None:
    """From 500 requests a second on: processor time within 15 %, medians within 8 %; crowds within 70 %."""
    costs = curve.kept_costs()
    for rate in curve.measured()["rates"]:
        if rate["asked"] >= 500:
            done = curve.as_measured(costs, rate["asked"])
            assert done.cpu == pytest.approx(rate["cpu"], rel=0.15)
            assert percentile(sorted(done.latencies), 0.5) == pytest.approx(rate["p50"], rel=0.08)
    for crowd in curve.measured()["crowds"]:
        one = simulate(Thinking(crowd["connections"], 1e-5, 1, Random(1)), costs, Limits(), 1)
        assert one.rate == pytest.approx(crowd["answered"], rel=0.7)
        assert bool(one.refused) == bool(crowd["refused"])


def test_the_kept_curve_is_what_the_simulation_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of its points, simulated again, are the same to the digit."""
    monkeypatch.setattr(curve, "LOADS", (500, 2_000, 25_000))
    kept = {point.load: point for point in curve.curve()}
    for point in curve.simulate_curve(curve.on_aws(curve.kept_costs())):
        assert point == kept[point.load]


def test_settings_and_sizes_are_those_of_hello() -> None:
    """The simulated process has hello's limits, pages and shards."""
    limits = Limits()
    assert limits.max_in_flight == Settings().max_in_flight
    assert (limits.connections, CHUNK) == (LEAST_CONNECTIONS, READ_CHUNK)
    assert (scale.FEED_PAGE, scale.SHARDS) == (FEED_PAGE, SHARDS)


def number(file: str, pattern: str) -> float:
    """Return the one number that a pattern finds in a file of infra/."""
    (found,) = set(re.findall(pattern, (ROOT / "infra" / file).read_text()))
    return float(found)


def default(name: str) -> float:
    """Return the default of a variable of infra/."""
    return number("var.tf", rf'variable "{name}" {{[^}}]*?\n  default +=\s(\d+)\n')


def test_infra_has_the_values_that_were_simulated() -> None:
    """What Terraform sets is what the page says, and what the simulation reckoned with."""
    policy, said = scale.POLICY, PAGE.read_text().partition("## What to set")[2].partition("\n## ")[0]
    per_vcpu = r"coalesce\(var\.requests_target, (\d+) \*"
    assert number("scaling.tf", per_vcpu) == number("ec2.tf", per_vcpu) == policy.requests
    task, instance = policy.requests * default("cpu") / 1024, policy.requests * EC2.vcpus
    assert f"{policy.requests:,.0f} a vCPU: {task:,.0f} for a task of ¼, {instance:,.0f}" in said
    assert policy.cpu is not None
    assert default("cpu_target") == policy.cpu * 100
    assert f"| processor | {default('cpu_target'):.0f} % |" in said
    assert default("min_count") == policy.minimum
    assert f"| fewest instances | {policy.minimum};" in said
    assert (
        f"| most instances | {default('max_count'):.0f} |" in said
    )  # a bound on costs: not what was simulated
    assert number("scaling.tf", r"scale_in_cooldown += (\d+)") == policy.cooldown_in
    out = number("scaling.tf", r"scale_out_cooldown += (\d+)")
    assert f"| cooldown out, in | {out:.0f} s, {policy.cooldown_in} s |" in said
    warmup = number("ec2.tf", r"default_instance_warmup += (\d+)")
    assert warmup == number("ec2.tf", r"[^_]instance_warmup += (\d+)") == METRIC_DELAY
    assert f"| warm-up (EC2) | {warmup:.0f} s" in said
    checks = number("alb.tf", r"interval += (\d+)") * number("alb.tf", r"\bhealthy_threshold += (\d+)")
    assert checks == HEALTHY
    assert number("ec2.tf", r"heartbeat_timeout += (\d+)") == DRAIN


# The fleet

POLICY = Policy(requests=60_000, cpu=0.8, minimum=2, maximum=50)


def in_service(done: Run) -> list[float]:
    """Return the instances in service, of each minute."""
    return [minute.instances / MINUTE for minute in done.minutes]


def step(before: float, after: float, at: int = 10 * MINUTE, seconds: int = HOUR) -> Pattern:
    """Requests that change their rate once."""
    return Pattern("step", "step", seconds, lambda second: before if second < at else after)


def test_a_steady_load_keeps_its_instances() -> None:
    """What the target asks for is in service all the time, and is paid for by the hour."""
    done = run(arrivals.steady(9_500), FARGATE, POLICY)
    assert set(in_service(done)) == {10}
    assert (done.refused, done.most) == (0, 10)
    assert done.cost == pytest.approx(10 * FARGATE.price)


@pytest.mark.parametrize("mode", [FARGATE, EC2])
def test_more_load_is_noticed_after_three_minutes(mode: Mode) -> None:
    """Three minutes above the target, the delay of the figures, the start: then all that is needed comes."""
    done = in_service(run(step(8_000, 24_000), mode, POLICY))
    before, after = 8 / mode.vcpus, 24 / mode.vcpus
    waits = 10 + 3 + METRIC_DELAY // MINUTE + mode.start // MINUTE
    assert done[:waits] == [before] * waits
    assert done[waits + 1 :] == [after] * (len(done) - waits - 1)


def test_less_load_is_believed_after_a_quarter_of_an_hour() -> None:
    """Instances go after 15 minutes below 0.9 of both targets, and are paid for while they drain."""
    done = run(step(20_000, 10_000), FARGATE, POLICY)
    waits = 10 + 15 + METRIC_DELAY // MINUTE
    assert in_service(done)[:waits] == [20] * waits
    assert in_service(done)[waits:] == [10] * (60 - waits)
    assert done.minutes[waits].paid == 10 * MINUTE + 10 * (DRAIN - 1)


def test_instances_stay_where_the_load_is_hardly_less() -> None:
    """Between 0.9 of a target and the target nothing changes."""
    assert set(in_service(run(step(20_000, 18_500), FARGATE, POLICY))) == {20}


def test_the_fleet_stays_within_its_bounds() -> None:
    """Neither a crowd nor silence leads beyond the maximum and the minimum."""
    crowd = run(arrivals.flash(10_000), FARGATE, POLICY)
    assert max(in_service(crowd)) == 50
    assert min(in_service(run(step(20_000, 1), FARGATE, POLICY))) == 2


def test_work_that_requests_do_not_tell_is_told_by_the_processor() -> None:
    """A feed counts as one request; the processor's policy adds instances for its work, the other none."""
    feeds = Pattern("feeds", "feeds", HOUR, lambda second: 4_000.0, lambda second: 10.0)
    without = Policy(POLICY.requests, None, POLICY.minimum, POLICY.maximum)
    assert max(in_service(run(feeds, FARGATE, without, feed_work=600))) <= 5
    assert max(in_service(run(feeds, FARGATE, POLICY, feed_work=600))) > 5


def test_a_lost_zone_is_replaced() -> None:
    """A third of the instances ends at once; so many start, and nothing is refused."""
    done = run(arrivals.steady(9_000), FARGATE, POLICY, lost=(30 * MINUTE, 1 / 3))
    assert in_service(done)[29] == 9
    assert min(in_service(done)) < 7
    assert in_service(done)[-1] == 9
    assert done.refused == 0


# Sums


def test_prices_add_up() -> None:
    """Of a task, an instance, etcd, answers to the internet and DynamoDB, by hand."""
    assert cost.FARGATE.price == pytest.approx(0.0395)
    assert cost.compute(EC2, 1) == pytest.approx(0.0725 * 730 + 0.64 + 2.10)
    assert cost.compute(EC2, 1, spot=1) == pytest.approx(0.4 * 0.0725 * 730 + 0.64 + 2.10)
    assert cost.around(EC2) == pytest.approx(3 * (0.0168 * 730 + 12 * 0.08) + 3 * 0.40 + 6 * 7.30)
    assert cost.around(FARGATE) == 0
    load = cost.Load(1e6 / 2.628, bytes_out=400, writes=0.05)  # 1e12 requests a month
    assert cost.egress(load) == pytest.approx(10e3 * 0.09 + 40e3 * 0.085 + 100e3 * 0.07 + 250e3 * 0.05)
    assert cost.on_demand(load) == pytest.approx(0.95e6 * 0.125 + 0.1e6 * 0.625)


def test_the_load_balancer_bills_what_is_highest() -> None:
    """25 new connections a second are an LCU, or a GB an hour."""
    assert cost.lcus(cost.Load(1_000, a_connection=1)) == 40
    assert cost.lcus(cost.Load(1_000, a_connection=1_000)) == pytest.approx(1_000 * 700 * 3600 / 1e9)


def test_beyond_the_break_even_ec2_stays_cheaper() -> None:
    """So it is for all loads from there on, and not below."""
    cheaper = scale.cheaper_on_ec2()
    found = cost.break_even(cheaper)
    assert found is not None
    assert all(cheaper(found + 500 * more) for more in range(1_000))
    assert not cheaper(found - 500)


def test_limits_are_met_in_order() -> None:
    """Each is reached at a load, and the first is that of a small account."""
    reached = [limit.of(cost.Load(1.0)) for limit in scale.limits()]
    assert reached == sorted(reached)
    assert reached[0] > 1_000


def test_the_page_has_the_tables_that_the_code_gives() -> None:
    """`make capacity` would change nothing of docs/capacity.md, in which each table has its place."""
    page = PAGE.read_text()
    for name in tables.TABLES:
        assert page.count(f"<!-- table: {name} -->\n\n|") == 1, name
    assert tables.filled(page) == page, "run `make capacity`"
