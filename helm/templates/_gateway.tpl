{{/*
What the gateway accepts. Written by scripts/chart_values.py from src/config/default.toml and src/domain/rights.rs.
*/}}

{{/* The least, the greatest and the default of each duration and size under config; no greatest is empty. */}}
{{- define "whatsapp-gateway.ranges" -}}
grpc.idle_timeout: ["1 s", "1 day", "5 min"]
grpc.message_bytes_max: ["64 KiB", "64 MiB", "4 MiB"]
webhook.body_bytes_max: ["64 KiB", "3.5 MiB", "3.5 MiB"]
webhook.bodies_bytes_max: ["4 MiB", "16 GiB", "64 MiB"]
webhook.body_timeout: ["1 s", "2 min", "10 s"]
webhook.header_timeout: ["1 s", "1 min", "10 s"]
webhook.idle_timeout: ["1 s", "10 min", "1 min"]
cloud_api.connect_timeout: ["100 ms", "1 min", "5 s"]
cloud_api.request_timeout: ["1 s", "5 min", "20 s"]
sending.request_id_kept: ["1 h", "7 days", "1 day"]
sending.resend_after: ["1 s", "1 h", "5 min"]
sending.probe_interval: ["100 ms", "1 h", "30 s"]
sending.window_known_after: ["0 s", "7 days", "1 day"]
media.stall_timeout: ["1 s", "10 min", "30 s"]
media.transfer_timeout: ["1 min", "1 day", "15 min"]
storage.retention: ["1 h", "3650 days", "8 days"]
storage.size_max: ["64 MiB", "", "8 GiB"]
storage.free_min: ["64 MiB", "", "256 MiB"]
events.send_timeout: ["1 s", "10 min", "30 s"]
events.rotation: ["1 s", "1 day", "45 min"]
shutdown.delay: ["0 s", "5 min", "5 s"]
shutdown.drain: ["1 s", "1 h", "20 s"]
{{- end }}

{{/* The methods that callers may be allowed, and what else each of them needs. */}}
{{- define "whatsapp-gateway.methods" -}}
SendMessage: Number
SendMessages: Number
UploadMedia: NumberOrWaba
DownloadMedia: Number
GetMedia: Number
DeleteMedia: Number
GetConversation: Number
MarkMessageRead: Number
GetMessage: Number
WatchMessage: Number
ManageTemplate/get: Waba
ManageTemplate/list: Waba
ManageTemplate/create: Waba
ManageTemplate/edit: Waba
ManageTemplate/delete: Waba
ManageTemplate/upsert: Waba
ManageTemplate/library: Waba
ManageTemplate/archive: Waba
ManageTemplate/unarchive: Waba
ManageTemplate/compare: Waba
ManageTemplate/migrate: Waba
ManageTemplate/unpause: Waba
ManageTemplate/preview: Waba
SubscribeEvents: Events
AcknowledgeEvents: Events
CreateSubscription: Events
GetSubscription: Events
ListSubscriptions: Events
UpdateSubscription: Events
DeleteSubscription: Events
SeekSubscription: Events
ListParkedEvents: Events
ReplayParkedEvents: Events
DropParkedEvents: Events
WhoAmI: Caller
{{- end }}
