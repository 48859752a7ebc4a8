"""Copies all objects of a bucket into a folder.
usage: download.py ENDPOINT BUCKET FOLDER"""

import pathlib
import sys

import boto3


def main(endpoint, bucket, folder):
    keys = {"aws_access_key_id": "chaos", "aws_secret_access_key": "chaos"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            path = pathlib.Path(folder, found["Key"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())


main(*sys.argv[1:])
