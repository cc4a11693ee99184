"""botocore's own description of SageMaker, which checks requests without an account; and the tag of this workshop."""

import functools

PROJECT_TAG = {"Key": "project", "Value": "orpo-workshop"}


@functools.cache
def service_model():
    """botocore's description of SageMaker: no account, no network."""
    import botocore.session

    return botocore.session.get_session().get_service_model("sagemaker")


def pattern_of(member: str, operation: str = "CreateTrainingJob") -> str:
    """The pattern that an operation asks of a member; botocore itself does not check it."""
    return service_model().operation_model(operation).input_shape.members[member].metadata["pattern"]


def validate(request: dict, operation: str = "CreateTrainingJob") -> None:
    """A ValueError of one line where botocore's model of an operation refuses the request."""
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(request, service_model().operation_model(operation).input_shape)
    if report.has_errors():
        raise ValueError(f"{operation} would be refused: {'; '.join(report.generate_report().splitlines())}")
