"""What is told of a run of the engine that failed."""

from stacks.rollout.engine import _said

FAULTS = """code: 255
stdout: Updating (test):
    pulumi:pulumi:Stack shop-test running error: 2 faults in the configuration; nothing was changed:
    pulumi:pulumi:Stack shop-test running error: an unhandled error occurred: program exited with code: 1
Diagnostics:
  pulumi:pulumi:Stack (shop-test):
    warning: using pulumi-resource-kubernetes from $PATH
      at some place
    error: 2 faults in the configuration of this stack; nothing was changed:
      shop:endpoints.tiny.traffic: the weights must add up to 100
      shop:endpoints.tiny.variants: expected at least one
    error: an unhandled error occurred: program exited with non-zero exit code: 1

  kubernetes:apps/v1:Deployment (tiny-blue):
    error: the image is not there

Outputs:
    endpoints: {}
"""


def test_faults_are_told_with_what_they_are() -> None:
    assert _said(Exception(FAULTS)) == (
        "error: 2 faults in the configuration of this stack; nothing was changed: "
        "shop:endpoints.tiny.traffic: the weights must add up to 100 "
        "shop:endpoints.tiny.variants: expected at least one "
        "error: the image is not there"
    )


def test_what_is_no_diagnostic_is_told_by_its_last_lines() -> None:
    assert _said(Exception("code: 1\nstderr: error: no such stack\n")) == "stderr: error: no such stack"
    assert _said(Exception("killed\n\n")) == "killed"
