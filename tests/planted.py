"""Made-up credentials, which tests plant where none may stay."""

# Put together here, so that no scanner takes this file for a leak
PLANTED = {
    "Hugging Face token": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345ab",
    "AWS Access Key": "AKIA" + "IOSFODNN7EXAMPLB",
    "GitHub Token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
}
