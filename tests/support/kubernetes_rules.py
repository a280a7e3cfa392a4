"""What has to hold in the manifests of each overlay: one function a rule, which raises AssertionError.

Schemas say that a value may stand where it stands; these say that values fit each other, hello and infra/.
"""

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from hello.app import create_app
from hello.settings import Settings
from hello.stores.base import StoreError
from tests.support.environment import ROOT
from tests.support.inprocess import FailingStore
from tests.support.kubernetes import Manifests, Object
from tests.support.settings import read

Rule = Callable[[Manifests], None]
BALANCER = (ROOT / "infra" / "alb.tf").read_text()
GOOGLE_KEEP_ALIVE = 600  # docs.cloud.google.com/load-balancing/docs/https/request-distribution; it is fixed
DIGEST = re.compile(r"[^@]+@sha256:[0-9a-f]{64}")
VERSION = re.compile(r"[^@]+:\d+\.\d+\.\d+")
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def terraform(name: str) -> int:
    """Return a number of infra/alb.tf."""
    found = re.search(rf"^ *{name} *= (\d+)\b", BALANCER, re.MULTILINE)
    assert found, f"infra/alb.tf has no {name}"
    return int(found[1])


def attribute(manifests: Manifests, annotation: str, name: str) -> int:
    """Return an attribute of the Application Load Balancer or its target group."""
    text = manifests.one("Ingress")["metadata"]["annotations"][f"alb.ingress.kubernetes.io/{annotation}"]
    return int(dict(part.split("=") for part in text.split(","))[name])


def long(probe: Object) -> int:
    """Return the seconds for which a probe fails before anything happens."""
    return int(probe["periodSeconds"] * probe["failureThreshold"])


def paths(value: object) -> Iterator[str]:
    """Find what is asked of hello over HTTP."""
    if isinstance(value, list):
        for item in value:
            yield from paths(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in {"requestPath", "alb.ingress.kubernetes.io/healthcheck-path"}:
                yield item
            elif name == "endpoints":
                yield from (endpoint["path"] for endpoint in item)
            else:
                yield from paths(item)


def a_pod_has_the_time_to_end(manifests: Manifests) -> None:
    """PreStop, drain and stop end before kubelet kills, with time to close the store."""
    settings = manifests.settings
    assert float(settings["HELLO_DRAIN_SECONDS"]) > 0
    ending = manifests.serving_after_the_end + float(settings["HELLO_STOP_SECONDS"])
    assert manifests.pod["terminationGracePeriodSeconds"] >= ending + 10


def liveness_spares_a_pod_that_drains(manifests: Manifests) -> None:
    """/hc fails while hello drains, and is refused while it stops: no probe kills it for that."""
    settings = manifests.settings
    failing = float(settings["HELLO_DRAIN_SECONDS"]) + float(settings["HELLO_STOP_SECONDS"])
    assert long(manifests.hello["livenessProbe"]) > failing


def probes_ask_the_right_thing(manifests: Manifests) -> None:
    """A store that is away makes a pod unready, and restarts none; a slow start is no reason either."""
    hello = manifests.hello
    asked = {name: hello[name]["httpGet"]["path"] for name in hello if name.endswith("Probe")}
    assert asked == {"startupProbe": "/hc", "livenessProbe": "/hc", "readinessProbe": "/ready"}
    assert hello["readinessProbe"]["timeoutSeconds"] > Settings().store_timeout


def paths_are_of_the_api(manifests: Manifests) -> None:
    """What probes, load balancers and Prometheus ask is in the OpenAPI document."""
    routes = create_app(Settings(), FailingStore(StoreError("away"))).table
    known = {route.path for route in routes if route.include_in_schema}
    asked = {manifests.hello[name]["httpGet"]["path"] for name in manifests.hello if name.endswith("Probe")}
    others = set(paths(manifests.objects))
    assert manifests.all("Ingress") or manifests.all("HealthCheckPolicy")
    assert others
    assert asked | others <= known


def ports_match(manifests: Manifests) -> None:
    """Hello's port, probes, Service, load balancer and network policy speak of one port."""
    number = Settings().port
    (port,) = manifests.hello["ports"]
    assert (port["name"], port["containerPort"]) == ("http", number)
    assert "HELLO_PORT" not in manifests.settings
    assert {manifests.hello[n]["httpGet"]["port"] for n in manifests.hello if n.endswith("Probe")} == {"http"}
    (served,) = manifests.one("Service")["spec"]["ports"]
    assert (served["name"], served["port"], served["targetPort"]) == ("http", number, "http")
    for rule in manifests.one("NetworkPolicy")["spec"]["ingress"]:
        assert rule["ports"] == [{"port": "http"}]
    for route in manifests.all("HTTPRoute"):
        for part in route["spec"]["rules"]:
            assert all((to["name"], to["port"]) == ("hello", number) for to in part.get("backendRefs", ()))


def kubernetes_sets_no_variables(manifests: Manifests) -> None:
    """A Service named hello would make HELLO_PORT=tcp://… in each pod of its namespace."""
    assert manifests.one("Service")["metadata"]["name"] == "hello"
    assert manifests.pod["enableServiceLinks"] is False


def settings_are_understood(manifests: Manifests) -> None:
    """Hello takes each HELLO_ variable, and serves beyond loopback by its keys."""
    given = {name: value for name, value in manifests.settings.items() if name.startswith("HELLO_")}
    known = {f"HELLO_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert set(given) <= known
    settings = read(environment=given)
    assert not settings.open
    mounts = {mount["name"]: mount["mountPath"] for mount in manifests.hello["volumeMounts"]}
    assert str(settings.keys_file).startswith(mounts["keys"])


def no_secret_is_written(manifests: Manifests) -> None:
    """No Secret is in the manifests, nor a key or a password in a variable."""
    assert not manifests.all("Secret")
    assert not {"HELLO_KEYS", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"} & set(manifests.settings)
    assert urlsplit(manifests.settings["HELLO_STORE"]).password is None
    for container in manifests.containers:
        assert all("value" not in variable for variable in container.get("env", ()))


def resources_are_set(manifests: Manifests) -> None:
    """Containers ask for CPU and memory, and have a limit of memory; hello's is what it asks for."""
    for container in manifests.containers:
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}
    assert (
        manifests.hello["resources"]["requests"]["memory"] == manifests.hello["resources"]["limits"]["memory"]
    )


def images_cannot_move(manifests: Manifests) -> None:
    """Our images are named by digest, one for all containers; those of others at least by a whole version."""
    ours = {c["image"] for c in manifests.containers if c["name"] in {"hello", "migrate"}}
    assert len(ours) == 1
    assert DIGEST.fullmatch(ours.pop())
    for container in manifests.containers:
        assert DIGEST.fullmatch(container["image"]) or VERSION.fullmatch(container["image"])


def pods_are_restricted(manifests: Manifests) -> None:
    """Pods meet the Pod Security Standard `restricted`, which the namespace enforces; root is read-only."""
    labels = manifests.one("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = manifests.pod
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == 65532
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= VOLUMES
    for container in manifests.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", ()))


def pods_have_no_token(manifests: Manifests) -> None:
    """Nobody who breaks into a pod can ask Kubernetes for anything."""
    assert manifests.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert manifests.pod["automountServiceAccountToken"] is False
    assert manifests.pod["serviceAccountName"] == manifests.one("ServiceAccount")["metadata"]["name"]
    assert not {entry["kind"] for entry in manifests.objects} & {"Role", "ClusterRole", "RoleBinding"}


def selectors_find_the_pods(manifests: Manifests) -> None:
    """Each selector finds our pods of any version, and no label of ours is in those of others."""
    ours = {"app.kubernetes.io/name": "hello"}
    assert manifests.template["metadata"]["labels"].items() >= ours.items()
    policy = manifests.one("NetworkPolicy")["spec"]
    assert manifests.one("Service")["spec"]["selector"] == ours
    for spec in (manifests.one("Deployment")["spec"], manifests.one("PodDisruptionBudget")["spec"]):
        assert spec["selector"] == {"matchLabels": ours}
    assert policy["podSelector"] == {"matchLabels": ours}
    for spread in manifests.pod["topologySpreadConstraints"]:
        assert spread["labelSelector"] == {"matchLabels": ours}
    peers = [peer for rule in policy["egress"] for peer in rule["to"] if "podSelector" in peer]
    assert [peer["podSelector"]["matchLabels"] for peer in peers] == [{"k8s-app": "kube-dns"}]


def a_release_takes_nothing_away(manifests: Manifests) -> None:
    """Old pods go when new ones serve; one that never does fails the release, once it had its time."""
    spec = manifests.one("Deployment")["spec"]
    assert "replicas" not in spec  # the autoscaler's
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["progressDeadlineSeconds"] > long(manifests.hello["startupProbe"]) + spec["minReadySeconds"]


def pods_survive_a_node_and_a_zone(manifests: Manifests) -> None:
    """There are three pods at least, over zones and nodes, and a drained node takes one at a time."""
    scaler = manifests.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == manifests.one("Deployment")["metadata"]["name"]
    assert scaler["maxReplicas"] > scaler["minReplicas"] >= 3
    (metric,) = scaler["metrics"]
    assert metric["containerResource"]["container"] == manifests.hello["name"]
    keys = [spread["topologyKey"] for spread in manifests.pod["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert manifests.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def the_network_is_closed(manifests: Manifests) -> None:
    """What is let in is believed about the client's address, and the way to the node's role is shut."""
    policy = manifests.one("NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    let_in = [
        peer["ipBlock"]["cidr"] for rule in policy["ingress"] for peer in rule["from"] if "ipBlock" in peer
    ]
    assert let_in
    assert set(let_in) <= set(manifests.settings["HELLO_PROXIES"].split(","))
    for rule in policy["egress"]:
        assert rule["ports"]
        for peer in rule["to"]:
            if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                assert peer["ipBlock"]["except"] == ["169.254.0.0/16"]
    if manifests.all(
        "Ingress"
    ):  # on EKS that address lends the node's role; on GKE it knows the pod's account alone
        assert "169.254.169.254" not in json.dumps(policy["egress"])


def load_balancers_wait_and_notice(manifests: Manifests) -> None:
    """Load balancers do as in infra/: they end connections first, and pods serve until they are let go."""
    drain, stop = (float(manifests.settings[f"HELLO_{name}_SECONDS"]) for name in ("DRAIN", "STOP"))
    assert (drain, stop) == (terraform("drain_seconds"), terraform("stop_seconds"))
    checks = ("interval", "timeout", "healthy_threshold", "unhealthy_threshold")
    if manifests.all("Ingress"):
        prefix = "alb.ingress.kubernetes.io/"
        keep_alive = attribute(manifests, "load-balancer-attributes", "idle_timeout.timeout_seconds")
        assert keep_alive == terraform("idle_seconds")
        delay = attribute(manifests, "target-group-attributes", "deregistration_delay.timeout_seconds")
        notes = manifests.one("Ingress")["metadata"]["annotations"]
        assert re.search(rf'"{notes[prefix + "ssl-policy"]}"', BALANCER)
        names = ("healthcheck-interval-seconds", "healthcheck-timeout-seconds", "healthy-threshold-count",
                 "unhealthy-threshold-count")  # fmt: skip
        told = [int(notes[prefix + name]) for name in names]
        labels = manifests.one("Namespace")["metadata"]["labels"]
        assert labels["elbv2.k8s.aws/pod-readiness-gate-inject"] == "enabled"
    else:
        keep_alive = GOOGLE_KEEP_ALIVE
        delay = manifests.one("GCPBackendPolicy")["spec"]["default"]["connectionDraining"][
            "drainingTimeoutSec"
        ]
        health = manifests.one("HealthCheckPolicy")["spec"]["default"]
        names = ("checkIntervalSec", "timeoutSec", "healthyThreshold", "unhealthyThreshold")
        told = [health[name] for name in names]
    assert told == [terraform(name) for name in checks]
    assert delay <= manifests.serving_after_the_end
    default = Settings().keep_alive_seconds
    assert float(manifests.settings.get("HELLO_KEEP_ALIVE_SECONDS", default)) > keep_alive + 10


def the_cloud_knows_the_pods(manifests: Manifests) -> None:
    """Pods act by their service account's role: IRSA on EKS, Workload Identity on GKE."""
    (annotation,) = manifests.one("ServiceAccount")["metadata"]["annotations"].items()
    store = urlsplit(manifests.settings["HELLO_STORE"])
    if manifests.all("Ingress"):
        assert re.fullmatch(
            r"eks\.amazonaws\.com/role-arn arn:aws:iam::\d{12}:role/hello", " ".join(annotation)
        )
        assert store.scheme == "dynamodb"
        return
    account = annotation[1].removesuffix(".gserviceaccount.com")
    assert annotation[0] == "iam.gke.io/gcp-service-account"
    assert store.username == account.replace("@", "%40")
    (proxy,) = [container for container in manifests.containers if container["name"] == "cloud-sql-proxy"]
    assert {"--auto-iam-authn", f"--port={store.port}"} <= set(proxy["args"])
    assert (store.scheme, store.hostname) == ("postgresql", "127.0.0.1")
    assert proxy.get("restartPolicy") == "Always"


RULES: list[Rule] = [
    a_pod_has_the_time_to_end,
    liveness_spares_a_pod_that_drains,
    probes_ask_the_right_thing,
    paths_are_of_the_api,
    ports_match,
    kubernetes_sets_no_variables,
    settings_are_understood,
    no_secret_is_written,
    resources_are_set,
    images_cannot_move,
    pods_are_restricted,
    pods_have_no_token,
    selectors_find_the_pods,
    a_release_takes_nothing_away,
    pods_survive_a_node_and_a_zone,
    the_network_is_closed,
    load_balancers_wait_and_notice,
    the_cloud_knows_the_pods,
]
