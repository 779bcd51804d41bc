"""Fills the caller's own names into generated requests: with random names the owner rule would refuse nearly every request."""

import json
import os

import schemathesis

# Field name → the caller's own value, from run.py.
OWN = json.loads(os.environ["CHECK_API_OWN"])


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.path.endswith(("/signIn", "/getAuthorizeCode")):
        return  # Open calls: there is no caller before the sign-in.
    for values in (case.query, case.body):
        if isinstance(values, dict):
            for name in OWN.keys() & values.keys():
                values[name] = OWN[name]


# Kakao delivers security event tokens (RFC 8935): text.
schemathesis.serializer.alias("application/secevent+jwt", "text/plain")
