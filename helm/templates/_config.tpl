{{/* The directories that the configuration names and the pod mounts. */}}
{{- define "whatsapp-gateway.configDir" -}}/etc/whatsapp-gateway{{- end }}
{{- define "whatsapp-gateway.secretsDir" -}}/etc/whatsapp-gateway/secrets{{- end }}
{{- define "whatsapp-gateway.tlsDir" -}}/etc/whatsapp-gateway/tls{{- end }}
{{- define "whatsapp-gateway.natsCredentialsDir" -}}/etc/whatsapp-gateway/nats-credentials{{- end }}
{{- define "whatsapp-gateway.natsTlsDir" -}}/etc/whatsapp-gateway/nats-tls{{- end }}
{{- define "whatsapp-gateway.dataDir" -}}/var/lib/whatsapp-gateway{{- end }}

{{/* The file of one key of the existing Secret, and the files of a list of them, as JSON. */}}
{{- define "whatsapp-gateway.secretFile" -}}
{{- printf "%s/%s" (include "whatsapp-gateway.secretsDir" .) . | toJson }}
{{- end }}

{{- define "whatsapp-gateway.secretFiles" -}}
{{- $files := list }}
{{- range . }}
{{- $files = append $files (include "whatsapp-gateway.secretFile" .) }}
{{- end }}
{{- printf "[%s]" (join ", " $files) }}
{{- end }}

{{/*
config.toml. Values are written as JSON, which for strings, numbers, booleans and lists of them is also TOML.
The sections are those of src/config/default.toml: what the user sets, and what the chart itself must know.
*/}}
{{- define "whatsapp-gateway.config" -}}
{{- $sections := deepCopy .Values.config }}
{{- /* Plain text must be accepted in writing; a pod's address is never loopback. Beside callers it lets nobody in without. */}}
{{- $isInsecure := or (eq (toString .Values.config.grpc.insecure) "true") (not (include "whatsapp-gateway.tlsSecretName" .)) }}
{{- $own := dict
  "grpc" (dict "listen" "0.0.0.0:50051" "insecure" $isInsecure)
  "webhook" (dict "listen" "0.0.0.0:8080")
  "admin" (dict "listen" "0.0.0.0:9090")
}}
{{- if include "whatsapp-gateway.isOnNats" . }}
{{- $_ := set $own "storage" (dict "backend" "nats") }}
{{- /* What the others reach is the address of the pod, which its environment has. */}}
{{- $_ := set $own "peers" (dict "listen" (printf "0.0.0.0:%d" (int .Values.peers.port))) }}
{{- else }}
{{- $_ := set $own "storage" (dict "backend" "embedded" "data_dir" (include "whatsapp-gateway.dataDir" .)) }}
{{- end }}
{{- range $name, $section := mergeOverwrite $sections $own }}
[{{ $name }}]
{{- range $key, $value := $section }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{ end }}
{{- if include "whatsapp-gateway.tlsSecretName" . }}
{{- $tlsDir := include "whatsapp-gateway.tlsDir" . }}
[grpc.tls]
cert_file = {{ printf "%s/tls.crt" $tlsDir | toJson }}
key_file = {{ printf "%s/tls.key" $tlsDir | toJson }}
{{- with .Values.grpcTls.clientCaKey }}
client_ca_file = {{ printf "%s/%s" $tlsDir . | toJson }}
{{- end }}
client_auth = {{ toJson .Values.grpcTls.clientAuth }}
{{ end }}
{{- if include "whatsapp-gateway.isOnNats" . }}
{{- include "whatsapp-gateway.natsConfig" .Values.storage.nats }}
{{- end }}
{{- $appId := "" }}
{{- range .Values.apps }}
{{- $appId = default .id $appId }}
[[apps]]
id = {{ toJson .id }}
secret_files = {{ include "whatsapp-gateway.secretFiles" (default (list "app-secret") .secretKeys) }}
verify_token_file = {{ include "whatsapp-gateway.secretFile" (default "verify-token" .verifyTokenKey) }}
{{ end }}
{{- range .Values.wabas }}
[[wabas]]
id = {{ toJson .id }}
app_id = {{ default $appId .appId | toJson }}
access_token_file = {{ include "whatsapp-gateway.secretFile" (default "access-token" .accessTokenKey) }}
phone_number_ids = {{ toJson .phoneNumberIds }}
{{ end }}
{{- range .Values.jwtIssuers }}
[[jwt_issuers]]
issuer = {{ toJson .issuer }}
audiences = {{ toJson .audiences }}
{{- with .jwksKey }}
jwks_file = {{ include "whatsapp-gateway.secretFile" . }}
{{- end }}
{{- with .jwksUrl }}
jwks_url = {{ toJson . }}
{{- end }}
{{- with .jwksCaFile }}
jwks_ca_file = {{ toJson . }}
{{- end }}
{{- with .jwksTokenFile }}
jwks_token_file = {{ toJson . }}
{{- end }}
{{- with .leeway }}
leeway = {{ toJson . }}
{{- end }}
{{ end }}
{{- range .Values.callers }}
[[callers]]
name = {{ toJson .name }}
{{- with .tokenSha256 }}
token_sha256 = {{ toJson . }}
{{- end }}
{{- with .tokenSha256Key }}
token_sha256_file = {{ include "whatsapp-gateway.secretFile" . }}
{{- end }}
{{- with .identities }}
identities = {{ toJson . }}
{{- end }}
{{- with .jwtSubjects }}
jwt_subjects = {{ toJson . }}
{{- end }}
{{- with .jwtIssuer }}
jwt_issuer = {{ toJson . }}
{{- end }}
methods = {{ toJson .methods }}
{{- with .phoneNumbers }}
phone_numbers = {{ toJson . }}
{{- end }}
{{- with .wabas }}
wabas = {{ toJson . }}
{{- end }}
{{- with .eventTypes }}
event_types = {{ toJson . }}
{{- end }}
{{- with .sendsPerSecond }}
sends_per_second = {{ int . }}
{{- end }}
{{- with .streamsMax }}
streams_max = {{ int . }}
{{- end }}
{{ end }}
{{- end }}

{{- define "whatsapp-gateway.natsConfig" -}}
{{- $credentialsDir := include "whatsapp-gateway.natsCredentialsDir" . }}
{{- $tlsDir := include "whatsapp-gateway.natsTlsDir" . }}
[storage.nats]
urls = {{ toJson .urls }}
prefix = {{ toJson .prefix }}
replicas = {{ int .replicas }}
{{- with .credentials.fileKey }}
credentials_file = {{ printf "%s/%s" $credentialsDir . | toJson }}
{{- end }}
{{- with .credentials.user }}
user = {{ toJson . }}
{{- end }}
{{- with .credentials.passwordKey }}
password_file = {{ printf "%s/%s" $credentialsDir . | toJson }}
{{- end }}
{{- with .tls.caKey }}
ca_file = {{ printf "%s/%s" $tlsDir . | toJson }}
{{- end }}
{{- with .tls.certKey }}
cert_file = {{ printf "%s/%s" $tlsDir . | toJson }}
{{- end }}
{{- with .tls.keyKey }}
key_file = {{ printf "%s/%s" $tlsDir . | toJson }}
{{- end }}
{{ end }}
