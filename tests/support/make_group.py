"""Makes an Auto Scaling Group behind a load balancer, and as little else as there can be, by boto3.

    python -m tests.support.make_group ENDPOINT '{"commits": [first, second], "delay": …, "group": {…}, …}'

It prints the ARN of the target group. "group" is for CreateTargetGroup, "scaling" for CreateAutoScalingGroup;
"user_data" are settings of instances, "keys" is the content of the secret hello/keys, which is HELLO_KEYS.
With "etcd", the content of the secret hello/etcd, there is a member of etcd too, at 10.0.0.10. The launch
templates first and second are for the two commits.
"""

import json
import sys
from base64 import b64encode
from typing import Any

from tests.support.make_balancer import balanced, clients, subnets

endpoint, wanted = sys.argv[1], json.loads(sys.argv[2])
ec2, elb, logs, scaling, secrets, alarms = clients(
    endpoint, "ec2", "elbv2", "logs", "autoscaling", "secretsmanager", "cloudwatch"
)


def keep(name: str, value: str) -> str:
    """Make a secret; return its ARN."""
    return str(secrets.create_secret(Name=f"hello/{name}", SecretString=value)["ARN"])


def template(name: str, image: str, settings: dict[str, str]) -> None:
    """Make a launch template."""
    lines = "".join(f"{setting}={value}\n" for setting, value in settings.items())
    data = {
        "ImageId": image,
        "InstanceType": "c7g.large",
        "UserData": b64encode(lines.encode()).decode(),
    }
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)


def scale(name: str, launched: str, **parameters: Any) -> None:
    """Make an Auto Scaling Group."""
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchTemplate={"LaunchTemplateName": launched, "Version": "$Latest"},
        VPCZoneIdentifier=",".join(subnets(ec2)),
        **parameters,
    )


arn = balanced(ec2, elb, "instance", wanted["delay"], wanted["group"])
logs.create_log_group(logGroupName="hello")
alarms.put_metric_alarm(
    AlarmName="latency",
    ComparisonOperator="GreaterThanThreshold",
    EvaluationPeriods=1,
    Namespace="hello",
    MetricName="latency",
    Period=60,
    Statistic="Average",
    Threshold=1,
)
settings = {"LOG_GROUP": "hello", "HELLO_KEYS": keep("keys", wanted["keys"]), **wanted["user_data"]}
if "etcd" in wanted:
    secret = json.loads(wanted["etcd"])
    settings |= {
        "HELLO_ETCD": "https://10.0.0.10:2379",
        "HELLO_ETCD_CA": keep("etcd-ca", secret["ca"]),
        "HELLO_ETCD_USER": "hello",
        "HELLO_ETCD_PASSWORD": keep("etcd-password", secret["hello"]),
    }
    member = {
        "ETCD_NAME": "m0",
        "ETCD_ADDRESS": "10.0.0.10",
        "ETCD_CLUSTER": "m0=https://10.0.0.10:2380",
        "ETCD_SECRET": keep("etcd", wanted["etcd"]),
    }
for name, commit in zip(("first", "second"), wanted["commits"], strict=True):
    image = ec2.register_image(Name=name)["ImageId"]
    ec2.create_tags(Resources=[image], Tags=[{"Key": "Commit", "Value": commit}])
    template(name, image, settings)
    if "etcd" in wanted and name == "first":
        template("etcd", image, member)
        scale("etcd", "etcd", MinSize=1, MaxSize=1)
scale("hello", "first", TargetGroupARNs=[arn], **wanted["scaling"])
print(arn)
