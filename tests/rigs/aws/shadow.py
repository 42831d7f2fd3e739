"""A device with the SDK of AWS IoT: its MQTT 5 client with the second shadow client, and its 3.1.1 client with the first.

Reads a plan (JSON) on stdin, writes what the hub told it (JSON) to stdout. User name, password and the CA's file are all
that differs from a device at AWS.
"""

import json
import os
import sys
import threading
from concurrent.futures import Future

from awscrt import io, mqtt, mqtt5, mqtt_request_response
from awsiot import ServiceStreamOptions, V2ServiceException, iotshadow

PATIENCE = 20


def tls(plan):
    options = io.TlsContextOptions()
    options.override_default_trust_store_from_path(None, plan["ca"])
    return io.ClientTlsContext(options)


def state(of):
    return {"desired": of.desired, "reported": of.reported, "delta": getattr(of, "delta", None)}


def over_5(plan):
    connected, stopped = Future(), threading.Event()
    client = mqtt5.Client(
        mqtt5.ClientOptions(
            host_name=plan["host"],
            port=plan["port"],
            tls_ctx=tls(plan),
            connect_options=mqtt5.ConnectPacket(client_id="sdk-5", username=plan["thing"], password=plan["password"]),
            on_lifecycle_event_connection_success_fn=lambda data: connected.set_result(data.connack_packet.reason_code),
            on_lifecycle_event_connection_failure_fn=lambda data: connected.set_exception(RuntimeError(repr(data.exception))),
            on_lifecycle_event_stopped_fn=lambda _data: stopped.set(),
        )
    )
    client.start()
    connected.result(PATIENCE)
    shadows = iotshadow.IotShadowClientV2(
        client, mqtt_request_response.ClientOptions(max_request_response_subscriptions=4, max_streaming_subscriptions=2, operation_timeout_in_seconds=PATIENCE)
    )
    delta, listening = Future(), Future()

    def status(event):
        if not listening.done():
            listening.set_result(event.type)

    stream = shadows.create_shadow_delta_updated_stream(
        iotshadow.ShadowDeltaUpdatedSubscriptionRequest(thing_name=plan["thing"]),
        ServiceStreamOptions(incoming_event_listener=delta.set_result, subscription_status_listener=status),
    )
    stream.open()
    listening.result(PATIENCE)
    got = shadows.get_shadow(iotshadow.GetShadowRequest(thing_name=plan["thing"])).result(PATIENCE)
    updated = shadows.update_shadow(
        iotshadow.UpdateShadowRequest(thing_name=plan["thing"], state=iotshadow.ShadowState(reported={"on": True}))
    ).result(PATIENCE)
    try:
        shadows.update_shadow(
            iotshadow.UpdateShadowRequest(thing_name=plan["thing"], state=iotshadow.ShadowState(reported={"brightness": 1000}))
        ).result(PATIENCE)
        rejected = None
    except V2ServiceException as refusal:
        rejected = {"code": refusal.modeled_error.code, "message": refusal.modeled_error.message}
    told = delta.result(PATIENCE)
    client.stop()
    stopped.wait(PATIENCE)
    return {
        "get": state(got.state),
        "update": {"version": updated.version},
        "rejected": rejected,
        "delta": told.state,
    }


def over_3(plan):
    client = mqtt.Client(tls_ctx=tls(plan))
    connection = mqtt.Connection(
        client, host_name=plan["host"], port=plan["port"], client_id="sdk-3", username=plan["thing"], password=plan["password"]
    )
    connection.connect().result(PATIENCE)
    shadows, answer = iotshadow.IotShadowClient(connection), Future()
    subscribed, _ = shadows.subscribe_to_get_shadow_accepted(
        iotshadow.GetShadowSubscriptionRequest(thing_name=plan["thing"]), mqtt.QoS.AT_LEAST_ONCE, answer.set_result
    )
    subscribed.result(PATIENCE)
    shadows.publish_get_shadow(iotshadow.GetShadowRequest(thing_name=plan["thing"], client_token="three"), mqtt.QoS.AT_LEAST_ONCE).result(PATIENCE)
    got = answer.result(PATIENCE)
    connection.disconnect().result(PATIENCE)
    return {"state": state(got.state), "version": got.version, "token": got.client_token}


def main():
    plan = json.load(sys.stdin)
    told = over_5(plan)
    told["three"] = over_3(plan)
    json.dump(told, sys.stdout)
    sys.stdout.flush()
    # The SDK's native threads may bring the interpreter down while it is being taken apart: leave without that.
    os._exit(0)


if __name__ == "__main__":
    main()
