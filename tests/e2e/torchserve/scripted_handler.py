"""A TorchServe handler that answers what a test has written down for it; it runs in TorchServe's environment.

`handler: {script: ...}` in the model's configuration is the path of the script's reader.
"""

import importlib.util


def _reader(path):
    specification = importlib.util.spec_from_file_location("script_reader", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def handle(requests, context):
    """TorchServe calls it once with None, to load the model, then with a batch of requests."""
    if requests is None:
        return None
    return [_reader(context.model_yaml_config["handler"]["script"]).text() for _ in requests]
