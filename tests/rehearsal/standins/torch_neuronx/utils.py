def get_platform_target():
    return "trn1"
