"""Reads a list of pods as JSON, and prints those that ask to be scraped by their annotations, as a file of targets for Prometheus."""

import json
import sys

NOTE = "prometheus.io/"


def target(pod):
    notes = pod["metadata"].get("annotations", {})
    address = pod["status"].get("podIP")
    if notes.get(f"{NOTE}scrape") != "true" or not address or pod["status"]["phase"] != "Running":
        return None
    labels = {
        "__metrics_path__": notes[f"{NOTE}path"],
        "namespace": pod["metadata"]["namespace"],
        "pod": pod["metadata"]["name"],
    }
    return {"targets": [f"{address}:{notes[f'{NOTE}port']}"], "labels": labels}


pods = json.load(sys.stdin)["items"]
json.dump([found for found in map(target, pods) if found], sys.stdout)
