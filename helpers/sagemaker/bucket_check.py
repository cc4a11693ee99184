"""Is the bucket there, and in the region of the jobs? SageMaker takes no other."""

from helpers.sagemaker.aws_errors import client, told
from helpers.store import S3_URL


def refuse_bucket_elsewhere(url: str, region: str) -> None:
    """The bucket of s3://bucket/prefix is there, in the region of the jobs. S3 tells that to everybody."""
    from botocore.exceptions import ClientError

    bucket = S3_URL.fullmatch(url)["bucket"]
    with told(f"HeadBucket {bucket}"):
        try:
            answer = client("s3", region).head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] == "404":
                raise ValueError(f"there is no bucket {bucket}: create it in {region}, or fix its name") from error
            if error.response["Error"]["Code"] != "403":  # who may not look is told its region all the same
                raise
            answer = error.response
    where = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
    if where != region:
        raise ValueError(f"bucket {bucket} is in {where}, the jobs in {region}: take a bucket in the jobs' region")
