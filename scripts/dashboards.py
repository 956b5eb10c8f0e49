#!/usr/bin/env python3
"""Writes the Grafana dashboards of helm/files/dashboards. With --check it compares them with what it would write; with
--queries it prints their queries as a file of rules, which promtool can check.

A panel is a title, a unit, what to read in it, and its queries. `$of` in a query stands for the selector of the chosen
gateways. To change a dashboard, change it here and run this.
"""

import json
import re
import sys
from pathlib import Path
from urllib.parse import quote

FOLDER = Path(__file__).parent.parent / "helm/files/dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
GATEWAY = 'namespace=~"$namespace", job=~"$job"'
INSTANCE = GATEWAY + ', instance=~"$instance"'
RATE = "$__rate_interval"
SECONDS, PER_SECOND, SHARE, COUNT, BYTES = "s", "ops", "percentunit", "short", "bytes"
SINCE = "dateTimeFromNow"


def panel(title, unit, text, *queries, kind="timeseries", width=8, height=8, traces="", limits=(), **options):
    """Queries are (PromQL, legend). `traces` is a TraceQL condition for the link to the traces behind the panel."""
    targets = []
    for number, (query, legend) in enumerate(queries):
        target = {
            "refId": chr(ord("A") + number),
            "datasource": PROMETHEUS,
            "editorMode": "code",
            "expr": query.replace("$of", INSTANCE),
            "legendFormat": legend,
            "range": kind == "timeseries",
            "instant": kind != "timeseries",
            "exemplar": kind == "timeseries" and "_bucket{" in query,
        }
        if kind == "table":
            target["format"] = "table"
        targets.append(target)
    defaults = {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}
    if kind != "timeseries":
        defaults.pop("custom")
    if unit == SINCE or options.pop("negative", False):
        defaults.pop("min")
    if limits:
        steps = [{"color": color, "value": value} for color, value in limits]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
    if traces:
        defaults["links"] = [{"title": "Traces", "targetBlank": True, "url": explore(traces)}]
    shape = {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "textMode": "auto"},
        "table": {"showHeader": True},
    }[kind]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": PROMETHEUS,
        "gridPos": {"w": width, "h": height},
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": shape | options,
        **({"transformations": [{"id": "labelsToFields", "options": {}}]} if kind == "table" else {}),
    }


def explore(condition):
    """The address of Grafana's Explore with the traces of the gateway under this condition. Variables stay readable."""
    query = '{resource.service.name="whatsapp-gateway" && ' + condition + "}"
    source = {"type": "tempo", "uid": "${traces}"}
    panes = {
        "traces": {
            "datasource": "${traces}",
            "queries": [{"refId": "A", "datasource": source, "queryType": "traceql", "query": query}],
            "range": {"from": "${__from}", "to": "${__to}"},
        }
    }
    encoded = quote(json.dumps(panes, separators=(",", ":")), safe="")
    return "/explore?schemaVersion=1&panes=" + re.sub(r"%24%7B([\w.]+)%7D", r"${\1}", encoded)


def rate(metric, by, labels=""):
    """The rate of a counter, summed up by labels."""
    selector = "$of" + (", " + labels if labels else "")
    return f"sum by ({by}) (rate({metric}{{{selector}}}[{RATE}]))"


def quantiles(metric, by="", labels="", legend=""):
    """Median, 95th and 99th percentile of a histogram, or by labels the 99th alone."""
    selector = "$of" + (", " + labels if labels else "")
    groups = ", ".join(filter(None, [by, "le"]))
    inner = f"sum by ({groups}) (rate({metric}_bucket{{{selector}}}[{RATE}]))"
    wanted = [(0.99, "p99")] if by else [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")]
    return [(f"histogram_quantile({share}, {inner})", f"{word} {legend}".strip()) for share, word in wanted]


def gauge(metric, by, how="max", labels=""):
    """A gauge by labels."""
    selector = "$of" + (", " + labels if labels else "")
    return f"{how} by ({by}) ({metric}{{{selector}}})"


def slo(record):
    """A recorded series of the objectives, which is of a job and not of an instance."""
    return f"{record}{{{GATEWAY}}}"


W = "whatsapp_gateway_"
RPC = "rpc_server_call_duration_seconds"
SERVER = "http_server_request_duration_seconds"
CLIENT = "http_client_request_duration_seconds"
POST = 'http_route="webhook", http_request_method="POST"'
NUMBER = "{{phone_number_id}}"
RPC_TRACES = 'span.rpc.method="${__field.labels.rpc_method}"'
WEBHOOK_TRACES = 'span.http.route="webhook"'
CLIENT_TRACES = "kind=client"

OVERVIEW = {
    "Objectives": [
        panel(
            "Error budget left",
            SHARE,
            "What is left of the error budget of 30 days: 100 % is all of it, below 0 the objective is missed.",
            (slo(W[:-1] + ":slo_budget_left:ratio30d"), "{{job}} {{slo}}"),
            kind="stat",
            height=6,
            negative=True,
            limits=[("red", None), ("orange", 0), ("green", 0.25)],
        ),
        panel(
            "Burn rate, one hour",
            COUNT,
            "How many times faster than allowed the budget burns. 1 uses it up in exactly 30 days; 14.4 pages.",
            (
                slo(W[:-1] + ":slo_bad:ratio_rate1h") + " / on (slo) group_left () " + W[:-1] + ":slo_allowed:ratio",
                "{{job}} {{slo}}",
            ),
            height=6,
        ),
        panel(
            "Firing alerts",
            COUNT,
            "The alerts of the gateway that fire now. docs/operations.md has a section for each.",
            ('count by (alertname, severity, job) (ALERTS{alertname=~"WhatsAppGateway.*", alertstate="firing"})', ""),
            kind="table",
            height=6,
        ),
    ],
    "Calls": [
        panel(
            "Calls",
            PER_SECOND,
            "Calls of the gRPC API by method. A stream counts once, when it is open.",
            (rate(RPC + "_count", "rpc_method"), "{{rpc_method}}"),
            traces=RPC_TRACES,
        ),
        panel(
            "Calls that failed",
            PER_SECOND,
            "Calls that did not end with OK. INVALID_ARGUMENT and the like are the caller's; INTERNAL, UNAVAILABLE and UNKNOWN need a look.",
            (
                rate(RPC + "_count", "rpc_method, rpc_response_status_code", 'rpc_response_status_code!="OK"'),
                "{{rpc_method}} {{rpc_response_status_code}}",
            ),
            traces=RPC_TRACES,
        ),
        panel(
            "Duration of calls, 99th percentile",
            SECONDS,
            "From the request to the answer; for streams until they are open. Sending waits for Meta and for its turn.",
            *quantiles(RPC, "rpc_method", legend="{{rpc_method}}"),
            traces=RPC_TRACES,
        ),
    ],
    "Messages": [
        panel(
            "Sends",
            PER_SECOND,
            "Sends that were answered, by outcome.",
            (rate(W + "sends_total", "outcome"), "{{outcome}}"),
        ),
        panel(
            "Webhooks",
            PER_SECOND,
            "Webhooks by outcome. Everything but accepted is sent again by Meta, or is not Meta's.",
            (rate(W + "webhooks_total", "outcome"), "{{outcome}}"),
            traces=WEBHOOK_TRACES,
        ),
        panel(
            "Events",
            PER_SECOND,
            "Events stored, and events handed to streams: each stream counts.",
            (rate(W + "log_appended_events_total", "job"), "stored"),
            (rate(W + "events_delivered_total", "job"), "delivered"),
        ),
    ],
    "Gateways": [
        panel(
            "Versions",
            COUNT,
            "Gateways that run, by version.",
            (gauge(W + "build_info", "version", "sum"), "{{version}}"),
            kind="stat",
            height=5,
        ),
        panel(
            "Open streams",
            COUNT,
            "Event streams that are open now.",
            (gauge(W + "event_streams", "job", "sum"), "{{job}}"),
            kind="stat",
            height=5,
        ),
        panel(
            "Event log used",
            SHARE,
            "Share of the room of the event log. When it is full, nothing is stored.",
            (gauge(W + "log_used_ratio", "instance"), "{{instance}}"),
            kind="stat",
            height=5,
            limits=[("green", None), ("orange", 0.7), ("red", 0.9)],
        ),
    ],
}

META = {
    "Cloud API": [
        panel(
            "Requests",
            PER_SECOND,
            "Requests to the Cloud API by endpoint.",
            (rate(CLIENT + "_count", "http_request_method, url_template"), "{{http_request_method}} {{url_template}}"),
            traces=CLIENT_TRACES,
        ),
        panel(
            "Answers that are no success",
            PER_SECOND,
            "Answers by class; none is no answer at all: not reached, broken off, or too late.",
            (
                rate(
                    CLIENT + "_count", "server_address, http_response_status_class", 'http_response_status_class!="2xx"'
                ),
                "{{server_address}} {{http_response_status_class}}",
            ),
            traces=CLIENT_TRACES,
        ),
        panel(
            "Duration of requests, 99th percentile",
            SECONDS,
            "From the request to the end of Meta's answer, by endpoint.",
            *quantiles(CLIENT, "url_template", legend="{{url_template}}"),
            traces=CLIENT_TRACES,
        ),
        panel(
            "Errors by reason",
            PER_SECOND,
            "Errors that Meta answered with, by the reason that callers see.",
            (rate(W + "meta_errors_total", "class"), "{{class}}"),
            traces=CLIENT_TRACES + " && status=error",
        ),
        panel(
            "Errors in webhooks by reason",
            PER_SECOND,
            "Errors that Meta reports afterwards, mostly of messages that it had accepted.",
            (rate(W + "webhook_errors_total", "class"), "{{class}}"),
        ),
        panel(
            "Statuses of messages",
            PER_SECOND,
            "Statuses that Meta reports. Failed should be rare, and delivered should follow sent.",
            (rate(W + "message_statuses_total", "status"), "{{status}}"),
        ),
    ],
    "Business numbers": [
        panel(
            "Quality",
            COUNT,
            "Meta's rating of each number. Yellow and red come of users who block or report it.",
            (gauge(W + "number_quality", "phone_number_id, quality") + " == 1", NUMBER + " {{quality}}"),
            kind="table",
        ),
        panel(
            "Messaging limit",
            COUNT,
            "Users to whom a number may write first within 24 hours. No limit is not drawn.",
            (gauge(W + "number_messaging_limit", "phone_number_id", "min"), NUMBER),
        ),
        panel(
            "Cannot send",
            COUNT,
            "1 while Meta does not let a number send, with the reason, or while the calls of its account are used up.",
            (gauge(W + "number_parked", "phone_number_id, reason"), NUMBER + " {{reason}}"),
            (gauge(W + "number_suspended", "phone_number_id"), NUMBER + " account used up"),
        ),
        panel(
            "Throughput",
            "mps",
            "Messages a second that each number may send and receive at present.",
            (gauge(W + "number_rate", "phone_number_id", "min"), NUMBER),
        ),
        panel(
            "Access tokens expire in",
            SECONDS,
            "Time until the access token of an account expires. One that never does is not drawn.",
            (gauge(W + "access_token_expiry_timestamp_seconds", "waba_id", "min") + " - time()", "{{waba_id}}"),
            negative=True,
        ),
    ],
}

WEBHOOK = {
    "Requests": [
        panel(
            "Webhooks",
            PER_SECOND,
            "Webhooks by outcome. bad_signature: another app's secret, or strangers; not_stored: the event log; busy: more at once than the memory allows.",
            (rate(W + "webhooks_total", "outcome"), "{{outcome}}"),
            traces=WEBHOOK_TRACES,
        ),
        panel(
            "Answers",
            PER_SECOND,
            "Answers by status. Meta sends again what was not 200.",
            (
                rate(SERVER + "_count", "http_request_method, http_response_status_code"),
                "{{http_request_method}} {{http_response_status_code}}",
            ),
            traces=WEBHOOK_TRACES,
        ),
        panel(
            "Time to acknowledge",
            SECONDS,
            "From the request to the 200, which says that the events are on the disk. Meta asks for a median of 250 ms, and less than 1 % over 1 s.",
            *quantiles(SERVER, labels=POST + ', http_response_status_code="200"'),
            traces=WEBHOOK_TRACES,
        ),
    ],
    "Items": [
        panel(
            "Items",
            PER_SECOND,
            "Items of accepted webhooks. Duplicates are what Meta sent again; unknown is what the gateway could not type.",
            (rate(W + "webhook_items_total", "outcome"), "{{outcome}}"),
            (rate(W + "webhook_unknown_items_total", "job"), "unknown"),
        ),
        panel(
            "Meta's time to durable",
            SECONDS,
            "From the time that Meta wrote into an item, in whole seconds, until it is on the disk. Large after an outage on either side.",
            *quantiles(W + "webhook_lag_seconds"),
        ),
        panel(
            "Since the last webhook",
            SECONDS,
            "Time since the last webhook that was accepted, or since the start.",
            (f"time() - {gauge(W + 'webhook_last_accepted_timestamp_seconds', 'instance')}", "{{instance}}"),
        ),
    ],
    "Event log": [
        panel(
            "Commit",
            SECONDS,
            "Time of one group commit; sync is its last part, which waits for the disk.",
            *quantiles(W + "log_commit_seconds", legend="commit")[1:],
            *quantiles(W + "log_sync_seconds", legend="sync")[1:],
        ),
        panel(
            "Batch and queue",
            COUNT,
            "Events and state writes per commit, and how many wait for the writer.",
            *quantiles(W + "log_batch_events", legend="per commit")[1:2],
            (gauge(W + "log_queue_events", "instance"), "waiting {{instance}}"),
        ),
        panel(
            "Writes",
            PER_SECOND,
            "Events stored, known already, and deleted by retention.",
            (rate(W + "log_appended_events_total", "job"), "stored"),
            (rate(W + "log_duplicate_events_total", "job"), "known already"),
            (rate(W + "log_trimmed_events_total", "job"), "deleted"),
        ),
        panel(
            "Room",
            BYTES,
            "Size of the event log, and what is free on its disk.",
            (gauge(W + "log_size_bytes", "instance"), "used {{instance}}"),
            (gauge(W + "log_disk_free_bytes", "instance"), "disk free {{instance}}"),
        ),
        panel(
            "Room used",
            SHARE,
            "Share of the size limit or of the disk, whichever ends first. At 100 % nothing is stored.",
            (gauge(W + "log_used_ratio", "instance"), "{{instance}}"),
        ),
        panel(
            "Refusing",
            COUNT,
            "1 while the event log refuses to store: no room, or the disk fails.",
            (gauge(W + "log_refusing", "instance"), "{{instance}}"),
        ),
    ],
}

STREAMS = {
    "Subscribers": [
        panel(
            "Open",
            COUNT,
            "Open event streams and watches of messages.",
            (gauge(W + "event_streams", "instance", "sum"), "streams {{instance}}"),
            (gauge(W + "message_watches", "instance", "sum"), "watches {{instance}}"),
        ),
        panel(
            "Events",
            PER_SECOND,
            "Events stored, and events handed to streams: each stream counts.",
            (rate(W + "log_appended_events_total", "job"), "stored"),
            (rate(W + "events_delivered_total", "job"), "delivered"),
        ),
        panel(
            "Durable to delivered",
            SECONDS,
            "From the disk to a stream that waits at the tail: the freshness objective. What is read after an absence does not count.",
            *quantiles(W + "event_age_seconds"),
        ),
    ],
    "Lag": [
        panel(
            "Events behind",
            COUNT,
            "How many events the slowest open stream is behind the newest.",
            (gauge(W + "event_stream_lag_events", "instance"), "{{instance}}"),
        ),
        panel(
            "Oldest event not taken",
            SECONDS,
            "Age of the event that the slowest open stream has to take next.",
            (gauge(W + "event_stream_oldest_age_seconds", "instance"), "{{instance}}"),
        ),
        panel(
            "Projections behind",
            COUNT,
            "Events that windows, identities and the states of messages have not followed yet.",
            (f"max by (instance) ({W}log_tail_seq{{$of}} - {W}projections_seq{{$of}})", "{{instance}}"),
        ),
    ],
    "Ends": [
        panel(
            "Streams that ended",
            PER_SECOND,
            "rotated and draining are normal. slow_consumer: the subscriber did not read. expired: retention has overtaken it.",
            (rate(W + "event_streams_closed_total", "reason"), "{{reason}}"),
        ),
        panel(
            "Watches that ended",
            PER_SECOND,
            "Watches of messages by how they ended.",
            (rate(W + "message_watches_closed_total", "reason"), "{{reason}}"),
        ),
    ],
    "Positions": [
        panel(
            "Events kept",
            COUNT,
            "Events in the log, and those in memory, from which streams near the tail are served.",
            (f"max by (instance) ({W}log_tail_seq{{$of}} - {W}log_earliest_seq{{$of}} + 1)", "on disk {{instance}}"),
            (
                f"max by (instance) ({W}log_tail_seq{{$of}} - {W}log_ring_earliest_seq{{$of}} + 1)",
                "in memory {{instance}}",
            ),
        ),
        panel(
            "Memory of the newest events",
            BYTES,
            "Bytes of the events that are kept in memory.",
            (gauge(W + "log_ring_bytes", "instance"), "{{instance}}"),
        ),
    ],
}

SENDING = {
    "Sends": [
        panel(
            "Sends",
            PER_SECOND,
            "Sends that were answered, by type and outcome.",
            (rate(W + "sends_total", "type, outcome"), "{{type}} {{outcome}}"),
        ),
        panel(
            "Sends by reason",
            PER_SECOND,
            "What callers were answered, by the reason in the error; OK is not drawn.",
            (rate(W + "send_answers_total", "reason", 'reason!="OK"'), "{{reason}}"),
            traces='span.rpc.method=~".*SendMessages?" && status=error',
        ),
        panel(
            "Time in the gateway",
            SECONDS,
            "What a send spends in the gateway itself: without Meta, and without the wait for its turn. The latency objective.",
            *quantiles(W + "send_overhead_seconds"),
            traces='span.rpc.method=~".*SendMessages?"',
        ),
        panel(
            "Outcome unknown",
            COUNT,
            "Sends and changes of templates of which nobody knows yet whether they were done.",
            (gauge(W + "sends_unknown", "instance", "sum"), "{{instance}}"),
        ),
        panel(
            "Statuses of messages",
            PER_SECOND,
            "Statuses that Meta reports of messages.",
            (rate(W + "message_statuses_total", "status"), "{{status}}"),
        ),
        panel(
            "Open streams of SendMessages",
            COUNT,
            "Streams on which callers send many messages.",
            (gauge(W + "send_streams", "instance", "sum"), "{{instance}}"),
        ),
    ],
    "Lanes": [
        panel(
            "Waiting for their turn",
            COUNT,
            "Messages of each number that wait because of its throughput or of the pace to one recipient.",
            (gauge(W + "lane_waiting", "phone_number_id", "sum"), NUMBER),
        ),
        panel(
            "Wait for the turn",
            SECONDS,
            "How long the messages waited that had to.",
            *quantiles(W + "lane_wait_seconds"),
        ),
        panel(
            "Refused because of limits",
            PER_SECOND,
            "Messages whose turn would have come too late, by what held them up, and calls beyond the quota of their caller.",
            (rate(W + "lane_refusals_total", "reason"), "{{reason}}"),
            (rate(W + "caller_quota_refusals_total", "quota"), "quota {{quota}}"),
        ),
    ],
    "Queue": [
        panel(
            "Queued",
            COUNT,
            "Queued messages of each number that wait or are on their way.",
            (gauge(W + "queue_depth", "phone_number_id", "sum"), NUMBER),
        ),
        panel(
            "Oldest queued",
            SECONDS,
            "How long the oldest of them has been queued; a not_before in the future counts.",
            (gauge(W + "queue_oldest_age_seconds", "phone_number_id"), NUMBER),
        ),
        panel(
            "Queued sends that ended",
            PER_SECOND,
            "expired: no turn in time. unknown: nobody knows whether it went out.",
            (rate(W + "queued_sends_total", "outcome"), "{{outcome}}"),
        ),
    ],
    "Windows and templates": [
        panel(
            "Windows and fallbacks",
            PER_SECOND,
            "Messages refused because the customer service window is closed, and templates that went out instead.",
            (rate(W + "window_refusals_total", "job"), "refused"),
            (rate(W + "fallbacks_total", "outcome"), "fallback {{outcome}}"),
        ),
        panel(
            "Refused because of their template",
            PER_SECOND,
            "Messages that the copy of their template does not allow.",
            (rate(W + "template_refusals_total", "reason"), "{{reason}}"),
        ),
        panel(
            "Looks at templates",
            PER_SECOND,
            "cached needs no call to Meta; late, failed and busy let Meta decide.",
            (rate(W + "template_lookups_total", "outcome"), "{{outcome}}"),
        ),
    ],
    "Numbers": [
        panel(
            "Throughput",
            "mps",
            "Messages a second that each number may send and receive at present.",
            (gauge(W + "number_rate", "phone_number_id", "min"), NUMBER),
        ),
        panel(
            "Cannot send",
            COUNT,
            "1 while Meta does not let a number send, with the reason, or while the calls of its account are used up.",
            (gauge(W + "number_parked", "phone_number_id, reason"), NUMBER + " {{reason}}"),
            (gauge(W + "number_suspended", "phone_number_id"), NUMBER + " account used up"),
        ),
    ],
}

RUNTIME = {
    "Utilization": [
        panel(
            "CPU",
            COUNT,
            "Cores that the process uses.",
            (rate("process_cpu_seconds_total", "instance"), "{{instance}}"),
        ),
        panel(
            "Workers busy",
            SHARE,
            "Share of the time that the threads of the runtime work. Near 100 % everything waits.",
            (
                f"{rate(W + 'runtime_busy_seconds_total', 'instance')} / {gauge(W + 'runtime_workers', 'instance')}",
                "{{instance}}",
            ),
        ),
        panel(
            "Memory",
            BYTES,
            "Resident and virtual memory of the process.",
            (gauge("process_resident_memory_bytes", "instance"), "resident {{instance}}"),
            (gauge("process_virtual_memory_bytes", "instance"), "virtual {{instance}}"),
        ),
    ],
    "Saturation": [
        panel(
            "Tasks",
            COUNT,
            "Tasks that have not ended, and tasks that wait for a thread.",
            (gauge(W + "runtime_tasks", "instance"), "tasks {{instance}}"),
            (gauge(W + "runtime_queue_depth", "instance"), "waiting {{instance}}"),
        ),
        panel(
            "Files and sockets",
            COUNT,
            "Open files and sockets, and how many there may be.",
            (gauge("process_open_fds", "instance"), "open {{instance}}"),
            (gauge("process_max_fds", "instance"), "limit {{instance}}"),
        ),
        panel(
            "Connections",
            COUNT,
            "Open connections by port.",
            (gauge(W + "connections", "instance, listener", "sum"), "{{listener}} {{instance}}"),
        ),
        panel("Threads", COUNT, "Threads of the process.", (gauge("process_threads", "instance"), "{{instance}}")),
        panel(
            "Running for",
            SECONDS,
            "Time since the process started.",
            (f"time() - {gauge('process_start_time_seconds', 'instance')}", "{{instance}}"),
        ),
    ],
    "Errors": [
        panel(
            "Panics and failures to accept",
            PER_SECOND,
            "Panics, each a defect of the gateway, and connections that the system did not give.",
            (rate(W + "panics_total", "instance"), "panics {{instance}}"),
            (rate(W + "accept_errors_total", "instance, listener"), "accept {{listener}} {{instance}}"),
        ),
        panel(
            "Connections refused and cut",
            PER_SECOND,
            "Connections beyond a limit, and connections that the gateway closed.",
            (rate(W + "connections_refused_total", "listener, reason"), "{{listener}} refused: {{reason}}"),
            (rate(W + "connections_cut_total", "listener, reason"), "{{listener}} cut: {{reason}}"),
        ),
        panel(
            "TLS handshakes that failed",
            PER_SECOND,
            "Connections that ended in their handshake.",
            (rate(W + "tls_handshake_failures_total", "listener, reason"), "{{listener}} {{reason}}"),
        ),
        panel(
            "Spans not exported",
            PER_SECOND,
            "Spans that are lost: queue_full: more than fits, or export_failed: the collector does not take them. Nothing waits for it.",
            (rate(W + "spans_dropped_total", "reason"), "{{reason}}"),
        ),
        panel(
            "Reloads",
            PER_SECOND,
            "Changed secrets and TLS files. One that is rejected is tried every 5 seconds.",
            (rate(W + "config_reload_total", "part, outcome"), "{{part}} {{outcome}}"),
        ),
    ],
    "Replicas": [
        panel(
            "Leads",
            COUNT,
            "1 where a gateway leads the others of its NATS prefix, or is alone. Differs: 1 where its settings are not the leader's.",
            (gauge(W + "leads", "instance"), "{{instance}}"),
            (gauge(W + "leader_settings_differ", "instance") + " > 0", "differs {{instance}}"),
        ),
        panel(
            "Calls passed on to the leader",
            PER_SECOND,
            "By outcome. no_leader: certainly not done. lost: nobody knows whether it was done. Waiting: calls that wait for a leader.",
            (rate(W + "relayed_call_seconds_count", "outcome"), "{{outcome}}"),
            (gauge(W + "calls_without_leader", "instance", "sum"), "waiting {{instance}}"),
        ),
        panel(
            "Until the leader answers",
            SECONDS,
            "Time of a call that was passed on, from its arrival to the beginning of the leader's answer.",
            *quantiles(W + "relayed_call_seconds"),
        ),
    ],
    "Callers": [
        panel(
            "Decisions about callers",
            PER_SECOND,
            "Calls that were not let in, by cause. denied: known, and not allowed.",
            (rate(W + "auth_decisions_total", "outcome", 'outcome!="allowed"'), "{{outcome}}"),
        ),
        panel(
            "Tokens of callers expire in",
            SECONDS,
            "Time until the last token of a caller expires. One that never does is not drawn.",
            (gauge(W + "caller_token_expiry_timestamp_seconds", "caller", "min") + " - time()", "{{caller}}"),
            negative=True,
        ),
        panel(
            "Certificates expire in",
            SECONDS,
            "Time until the certificate of a port expires.",
            (
                gauge(W + "certificate_expiry_timestamp_seconds", "instance, listener", "min") + " - time()",
                "{{listener}} {{instance}}",
            ),
            negative=True,
        ),
    ],
}

DASHBOARDS = {
    "overview": ("Overview", "Is it well: objectives, calls, messages.", OVERVIEW),
    "meta": ("Meta", "The Cloud API as the gateway sees it, and what Meta says of the numbers.", META),
    "webhook": ("Webhook", "From Meta to the disk.", WEBHOOK),
    "streams": ("Streams", "From the disk to the subscribers.", STREAMS),
    "sending": ("Sending", "From the callers to Meta: answers, turns, queue, windows, numbers.", SENDING),
    "runtime": ("Runtime", "Utilization, saturation and errors of the process, and its callers.", RUNTIME),
}


def variables():
    """What stands at the top of every dashboard."""

    def source(name, label, kind):
        return {"name": name, "label": label, "type": "datasource", "query": kind, "current": {}, "refresh": 1}

    def label(name, text, of):
        query = f"label_values(whatsapp_gateway_build_info{{{of}}}, {name})"
        return {
            "name": name,
            "label": text,
            "type": "query",
            "datasource": PROMETHEUS,
            "definition": query,
            "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "sort": 1,
            # What has no such label is chosen too.
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }

    return [
        source("datasource", "Metrics", "prometheus"),
        source("traces", "Traces", "tempo"),
        label("namespace", "Namespace", ""),
        label("job", "Job", 'namespace=~"$namespace"'),
        label("instance", "Instance", GATEWAY),
    ]


def dashboard(name):
    """A dashboard as Grafana reads it. Three panels stand side by side."""
    title, text, rows = DASHBOARDS[name]
    panels, top = [], 0
    for row, members in rows.items():
        panels.append(
            {
                "type": "row",
                "title": row,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
                "panels": [],
            }
        )
        top += 1
        left = tall = 0
        for member in members:
            place = member["gridPos"]
            if left + place["w"] > 24:
                left, top = 0, top + tall
            place |= {"x": left, "y": top}
            left, tall = left + place["w"], place["h"]
            panels.append(member)
        top += tall
    for number, member in enumerate(panels, 1):
        member["id"] = number
    return {
        "uid": f"whatsapp-gateway-{name}",
        "title": f"WhatsApp gateway: {title}",
        "description": text,
        "tags": ["whatsapp-gateway"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "title": "WhatsApp gateway",
                "type": "dashboards",
                "tags": ["whatsapp-gateway"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            },
            {
                "title": "Traces",
                "type": "link",
                "icon": "external link",
                "targetBlank": True,
                "url": explore("kind=server"),
            },
        ],
        "templating": {"list": variables()},
        "annotations": {"list": []},
        "panels": panels,
    }


def queries():
    """Every query as a rule. JSON is YAML."""
    targets = [
        target for name in DASHBOARDS for member in dashboard(name)["panels"] for target in member.get("targets", [])
    ]
    rules = [{"record": "query", "expr": target["expr"].replace(RATE, "5m")} for target in targets]
    return json.dumps({"groups": [{"name": "dashboards", "rules": rules}]})


def main():
    wanted = {FOLDER / f"{name}.json": json.dumps(dashboard(name), indent=1) + "\n" for name in DASHBOARDS}
    if sys.argv[1:] == ["--queries"]:
        print(queries())
    elif sys.argv[1:] == ["--check"]:
        found = {path: path.read_text() for path in FOLDER.iterdir()}
        differing = sorted(path.name for path in wanted | found if wanted.get(path) != found.get(path))
        if differing:
            sys.exit(f"not what scripts/dashboards.py writes; change it there and run it: {', '.join(differing)}")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        for path, text in wanted.items():
            path.write_text(text)


main()
