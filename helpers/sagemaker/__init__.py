"""SageMaker training jobs: build and check a request, submit it once, follow it, fetch what it made.

    catalogue    container images, instances and dated prices     service      botocore's own model of SageMaker
    job          the job, its request in full                     aws_errors   the service's errors in one line
    job_checks   what is checked of a job                      hyperparameters  those that scripts/train.py would refuse
    package      code and pairs on their way to S3, the results back
    submission   dry run, submit once, stop                       follow       log, progress, cost, why it failed
    role         policies of the role and of who submits          role_check   can the role be taken on?
    volume       how large a disk a job needs                     cleanup      what jobs left, listed, then deleted
    account      AWS, or a rehearsal where none is named          loopback     the service of a rehearsal, moto's
    instance     this machine as the instance of a rehearsal      bucket_check is it there, in the jobs' region?
    classroom    what a class in Studio costs
    planner      memory, time and price on paper           plan_inputs  its arguments and assumptions, checked
    scaling      which instance, how many, and where more stop paying
    saved_model  is a trained model complete and like its base?   serving  models by name on loopback, and chat_server
    deploy       export for NeuronCores, and the requests of an endpoint

Built on boto3: `ModelTrainer` of the SageMaker SDK brings some 130 packages and asks IAM questions when it is made,
while the request itself is one call that botocore's own model describes. Scripts may import this room; it imports
`neuron` and the rooms below.
"""

from helpers import exports

__all__, __getattr__, __dir__ = exports(
    __name__,
    {
        "job": "TrainingJob request_of",
        "planner": "Plan compare compare_table plan",
        "scaling": "Scaling compare_instances instances_table scale",
        "submission": "dry_run job_name submit stop_job",
        "package": "fetch_results",
        "follow": "cost_text follow_job",
        "account": "Account open_account",
        "role": "as_json caller_policy execution_policy how_to_ask_for_quota how_to_create trust_policy",
        "cleanup": "clean_up clean_up_tagged",
        "classroom": "cost_table spaces_table",
        "saved_model": "checked_model merged trained_models",
        "serving": "serve",
        "deploy": "endpoint_request export_command",
    },
)
