"""Kubernetes' manifests: rendered by kubectl, valid, and in step with hello and infra/.

No API server is asked: none is to be had from PyPI, npm or Debian. Schemas and rules stand for it.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from tests.support import kubernetes_rules as rules
from tests.support.dynamodb import EMULATORS, NODE
from tests.support.environment import ROOT, missing
from tests.support.kubernetes import K8S, OVERLAYS, Manifests, add_monitor, changed, render, tool

RELEASES = ("1.35", "1.36", "1.37")
CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"
ACCEPTED = {
    "eks": {"CKV_K8S_11"},  # no limit of CPU: it would slow requests down where cores are idle
    # Nor has Google's proxy one, and its digest is nothing that we could look up: the version is whole.
    "gke": {"CKV_K8S_11", "CKV_K8S_15", "CKV_K8S_43"},
}


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """What each overlay makes, with the metrics of Prometheus' operator."""
    copy = shutil.copytree(K8S, tmp_path_factory.mktemp("k8s") / "k8s")
    add_monitor(copy / "overlays" / request.param)
    return render(copy / "overlays" / request.param)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_each_rule_holds(rule: rules.Rule, manifests: Manifests) -> None:
    """See tests/support/kubernetes_rules.py."""
    rule(manifests)


POD = "base/deployment.yaml"
SETTINGS = "base/settings.env"
SERVICE = "base/service.yaml"
POLICY = "base/network-policy.yaml"
INGRESS = "overlays/eks/ingress.yaml"
GATEWAY = "overlays/gke/gateway.yaml"
POLICIES = "overlays/gke/policies.yaml"
SQL = "components/cloud-sql/deployment.yaml"
AT_AWS = "overlays/eks/settings.env"
AT_GOOGLE = "overlays/gke/settings.env"
EKS = "overlays/eks/kustomization.yaml"
GKE = "overlays/gke/kustomization.yaml"
# What each rule is to find: a change of one file.
MISTAKES: dict[rules.Rule, list[tuple[str, str, str]]] = {
    rules.a_pod_has_the_time_to_end: [
        (POD, "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 59"),
        (SETTINGS, "STOP_SECONDS=30", "STOP_SECONDS=31"),
        (SETTINGS, "DRAIN_SECONDS=15", "DRAIN_SECONDS=0"),
    ],
    rules.liveness_spares_a_pod_that_drains: [
        (POD, "failureThreshold: 6", "failureThreshold: 4"),
    ],
    rules.probes_ask_the_right_thing: [
        (POD, "path: /ready", "path: /hc"),
        (POD, "timeoutSeconds: 3", "timeoutSeconds: 2"),
    ],
    rules.paths_are_of_the_api: [
        (POD, "path: /hc", "path: /healthz"),
        (INGRESS, "path: /hc", "path: /healthz"),
        (POLICIES, "requestPath: /hc", "requestPath: /healthz"),
        ("components/service-monitor/service-monitor.yaml", "path: /metrics", "path: /m"),
    ],
    rules.ports_match: [
        (POD, "containerPort: 5000", "containerPort: 8080"),
        (POD, "port: http", "port: 5001"),
        (SERVICE, "targetPort: http", "targetPort: 80"),
        (GATEWAY, "port: 5000", "port: 80"),
    ],
    rules.kubernetes_sets_no_variables: [
        (POD, "enableServiceLinks: false", "enableServiceLinks: true"),
    ],
    rules.settings_are_understood: [
        (SETTINGS, "HELLO_STOP_SECONDS", "HELLO_STOP_TIME"),
        (SETTINGS, "STOP_SECONDS=30", "STOP_SECONDS=30s"),
        (AT_AWS, "10.0.0.0/20,", "vpc,"),
        (AT_GOOGLE, "HELLO_STORE=", "HELLO_OPEN=true\nHELLO_STORE="),
    ],
    rules.no_secret_is_written: [
        (AT_GOOGLE, "@127.0.0.1", ":password@127.0.0.1"),
        (AT_AWS, "HELLO_STORE=", "HELLO_KEYS=[]\nHELLO_STORE="),
    ],
    rules.resources_are_set: [
        (POD, 'cpu: "1"', "ephemeral-storage: 1Gi"),
        (SQL, "memory: 128Mi", "cpu: 1"),
    ],
    rules.images_cannot_move: [
        ("overlays/eks/release/kustomization.yaml", "digest: sha256:", "newTag: sha256-"),
        ("components/cloud-sql/kustomization.yaml", "2.21.3", "latest"),
        (GKE, "../../components/cloud-sql\n  - release", "release\n  - ../../components/cloud-sql"),
    ],
    rules.pods_are_restricted: [
        (POD, "runAsNonRoot: true", "runAsNonRoot: false"),
        (POD, "type: RuntimeDefault", "type: Unconfined"),
        (POD, "drop: [ALL]", "drop: [NET_RAW]"),
        (POD, "emptyDir:\n            sizeLimit: 16Mi", "hostPath:\n            path: /tmp"),
        (SQL, "readOnlyRootFilesystem: true", "privileged: true"),
        ("base/namespace.yaml", "enforce: restricted", "enforce: baseline"),
    ],
    rules.pods_have_no_token: [
        (POD, "automountServiceAccountToken: false", "automountServiceAccountToken: true"),
        ("base/service-account.yaml", "Token: false", "Token: true"),
    ],
    rules.selectors_find_the_pods: [
        ("base/kustomization.yaml", "includeTemplates: true", "includeSelectors: true"),
        (SERVICE, "name: hello\n  ports", "name: greeting\n  ports"),
    ],
    rules.a_release_takes_nothing_away: [
        (POD, "maxUnavailable: 0", "maxUnavailable: 1"),
        (POD, "progressDeadlineSeconds: 180", "progressDeadlineSeconds: 120"),
        (POD, "minReadySeconds: 5", "minReadySeconds: 5\n  replicas: 1"),
    ],
    rules.pods_survive_a_node_and_a_zone: [
        ("base/horizontal-pod-autoscaler.yaml", "minReplicas: 3", "minReplicas: 2"),
        ("base/pod-disruption-budget.yaml", "maxUnavailable: 1", "maxUnavailable: 3"),
    ],
    rules.the_network_is_closed: [
        (POLICY, "169.254.0.0/16", "10.0.0.0/8"),
        (EKS, "cidr: 10.0.16.0/20", "cidr: 0.0.0.0/0"),
        (AT_GOOGLE, "130.211.0.0/22,", ""),
    ],
    rules.load_balancers_wait_and_notice: [
        (INGRESS, "idle_timeout.timeout_seconds=60", "idle_timeout.timeout_seconds=75"),
        (INGRESS, "delay.timeout_seconds=15", "delay.timeout_seconds=21"),
        (EKS, "inject: enabled", "inject: disabled"),
        (POLICIES, "drainingTimeoutSec: 15", "drainingTimeoutSec: 21"),
        (AT_GOOGLE, "HELLO_KEEP_ALIVE_SECONDS=620", ""),
        (SETTINGS, "DRAIN_SECONDS=15", "DRAIN_SECONDS=16"),
    ],
    rules.the_cloud_knows_the_pods: [
        (EKS, "role-arn: arn", "role: arn"),
        (AT_GOOGLE, "hello%40", "postgres%40"),
        (SQL, "restartPolicy: Always\n", "\n"),
    ],
}


@pytest.mark.parametrize(
    ("rule", "file", "was", "becomes"),
    [(rule, *mistake) for rule, mistakes in MISTAKES.items() for mistake in mistakes],
)
def test_each_rule_finds_its_mistakes(
    rule: rules.Rule, file: str, was: str, becomes: str, tmp_path: Path
) -> None:
    """A rule fails where what it is about is changed."""
    copy = changed(tmp_path, file, was, becomes)
    overlay = "gke" if "gke" in file or "cloud-sql" in file else "eks"
    add_monitor(copy / "overlays" / overlay)
    wrong = render(copy / "overlays" / overlay)
    with pytest.raises((AssertionError, CycloptsError)):
        rule(wrong)


def test_each_rule_has_a_mistake() -> None:
    """The table above is complete."""
    assert list(MISTAKES) == rules.RULES


def invalid(manifests: Manifests, release: str, folder: Path) -> list[str]:
    """Return what the schemas of a release of Kubernetes find, and which kinds they don't know."""
    (file := folder / "all.yaml").write_text(manifests.text)
    done = subprocess.run(
        [tool("kubernetes-validate"), "--kubernetes-version", release, "--strict", file],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    passed = [line for line in said if line.startswith("INFO") and f"against version {release}" in line]
    assert len(passed) > 5, said
    return [line for line in said if line not in passed]


def wrong_custom_resources(manifests: Manifests) -> list[str]:
    """Return what the models of custom resources find."""
    custom = [entry for entry in manifests.objects if is_custom(entry["apiVersion"])]
    assert custom
    modules = EMULATORS / "npm" / "node_modules"
    if not (modules / "@kubernetes-models").exists():
        missing("models of Kubernetes' custom resources are not installed (make .venv/.stamps/emulators)")
    node, script = next(EMULATORS.glob(NODE)), ROOT / "tests" / "support" / "npm" / "custom-resources.mjs"
    done = subprocess.run(
        [node, script, modules],
        input=json.dumps(custom),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def is_custom(version: str) -> bool:
    """Return whether an apiVersion is of a resource that Kubernetes itself does not bring."""
    return version.split("/")[0] in {
        "gateway.networking.k8s.io",
        "monitoring.coreos.com",
        "networking.gke.io",
    }


@pytest.mark.parametrize("release", RELEASES)
def test_manifests_are_valid(release: str, manifests: Manifests, tmp_path: Path) -> None:
    """Each object of Kubernetes' own is what the release's schema allows, and no field is unknown."""
    custom = [entry for entry in manifests.objects if is_custom(entry["apiVersion"])]
    said = invalid(manifests, release, tmp_path)
    assert len(said) == len(custom), said
    assert all("Couldn't find schema" in line for line in said), said


def test_a_field_that_is_unknown_is_found(tmp_path: Path) -> None:
    """Misspelled, a field would be ignored or refused by a cluster."""
    copy = changed(tmp_path, "base/pod-disruption-budget.yaml", "unhealthyPodEvictionPolicy", "unhealthyPods")
    said = invalid(render(copy / "overlays" / "eks"), RELEASES[0], tmp_path)
    assert any("unhealthyPods" in line for line in said), said


def test_custom_resources_are_valid(manifests: Manifests) -> None:
    """So are those of Gateway API, GKE and Prometheus' operator, by their definitions."""
    assert wrong_custom_resources(manifests) == []


@pytest.mark.parametrize(
    ("file", "was", "becomes", "kind"),
    [
        ("policies.yaml", "drainingTimeoutSec: 15", "drainingTimeoutSec: 15s", "GCPBackendPolicy"),
        ("policies.yaml", "sslPolicy: hello", "sslPolicy: 1", "GCPGatewayPolicy"),
        ("policies.yaml", "type: HTTP\n", "type: ICMP\n", "HealthCheckPolicy"),
        ("gateway.yaml", "port: 443", "port: 70000", "Gateway"),
        ("gateway.yaml", "statusCode: 301", "statusCode: 200", "HTTPRoute"),
    ],
)
def test_a_wrong_custom_resource_is_found(
    file: str, was: str, becomes: str, kind: str, tmp_path: Path
) -> None:
    """A value that the definition does not allow is found."""
    wrong = render(changed(tmp_path, f"overlays/gke/{file}", was, becomes) / "overlays" / "gke")
    (said,) = wrong_custom_resources(wrong)
    assert said.startswith((f"{kind} hello: ", f"{kind} redirect: "))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_checkov_finds_nothing_but_what_is_accepted(overlay: str, tmp_path: Path) -> None:
    """Its rules for Kubernetes hold, save those above; of the accepted ones none is there for nothing."""
    if not CHECKOV.exists():
        missing("checkov is not installed (make .venv/.stamps/checkov)")
    (tmp_path / "all.yaml").write_text(render(K8S / "overlays" / overlay).text)
    done = subprocess.run(
        [CHECKOV, "--framework", "kubernetes", "--file", "all.yaml", "--output", "json", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "LOG_LEVEL": "CRITICAL"},  # it logs that it can't reach its maker
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    told = json.loads(done.stdout)
    assert told["summary"]["passed"] > 50
    assert {entry["check_id"] for entry in told["results"]["failed_checks"]} == ACCEPTED[overlay]


def test_the_documented_role_may_what_serving_takes() -> None:
    """Its policy is that of the role in infra/, and its trust is in the pods' service account alone."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    trust, table = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    granted = [action for statement in table["Statement"] for action in listed(statement["Action"])]
    assert sorted(granted) == sorted(re.findall(r'"(dynamodb:\w+)"', (ROOT / "infra" / "iam.tf").read_text()))
    conditions = trust["Statement"][0]["Condition"]["StringEquals"]
    account = render(K8S / "overlays" / "eks").one("ServiceAccount")["metadata"]
    whom = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    assert {name.rpartition(":")[2]: value for name, value in conditions.items()} == {
        "aud": "sts.amazonaws.com",
        "sub": whom,
    }


def listed(value: str | list[str]) -> list[str]:
    """Return what a policy has as one or as a list."""
    return [value] if isinstance(value, str) else value
