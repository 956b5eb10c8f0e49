{{- define "whatsapp-gateway.validate.storage" -}}
{{- if include "whatsapp-gateway.isOnNats" . }}
{{- if .Values.persistence.existingClaim }}
{{- printf "- persistence.existingClaim is %s, but storage.backend nats has no volume: remove it, or set storage.backend to embedded.\n" .Values.persistence.existingClaim }}
{{- end }}
{{- if dig "storage" "free_min" "" .Values.config }}
{{- print "- config.storage.free_min is set, but it is about a volume, and storage.backend nats has none: remove it.\n" }}
{{- end }}
{{- include "whatsapp-gateway.validate.nats" .Values.storage.nats }}
{{- include "whatsapp-gateway.validate.natsSecrets" .Values.storage.nats }}
{{- if has (int .Values.peers.port) (list 8080 9090 50051) }}
{{- printf "- peers.port is %v, which the pod listens on for something else (50051 calls, 8080 webhooks, 9090 metrics): choose another port.\n" .Values.peers.port }}
{{- end }}
{{- else }}
{{- if eq .Values.mode "cluster" }}
{{- print "- mode is cluster, but storage.backend is embedded, which is one pod with one volume: set storage.backend to nats and storage.nats.urls to its servers, or mode to single.\n" }}
{{- end }}
{{- $nats := .Values.storage.nats }}
{{- if or $nats.urls $nats.credentials.secretName $nats.credentials.user $nats.credentials.fileKey $nats.credentials.passwordKey $nats.tls.secretName $nats.tls.caKey $nats.tls.certKey $nats.tls.keyKey }}
{{- print "- storage.nats is set, but storage.backend is embedded and would not use it: set storage.backend to nats, or empty storage.nats.\n" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.nats" -}}
{{- if not .urls }}
{{- print "- storage.nats.urls is empty: name the servers of NATS, as in storage.nats.urls[0]=nats://nats.nats:4222.\n" }}
{{- end }}
{{- $names := list }}
{{- range $i, $url := .urls }}
{{- if contains "@" $url }}
{{- /* Not shown: it may hold a password. */}}
{{- printf "- storage.nats.urls[%d] holds a user or a password: write the address alone, and name a Secret in storage.nats.credentials.\n" $i }}
{{- else if not (regexMatch "^(nats|tls)://([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:]+\\])(:[0-9]{1,5})?$" $url) }}
{{- printf "- storage.nats.urls[%d] is %q: write nats:// or tls://, a host and perhaps a port, such as nats://nats.nats:4222.\n" $i $url }}
{{- else if has $url $names }}
{{- printf "- storage.nats.urls names %s twice: name each server once.\n" $url }}
{{- end }}
{{- $names = append $names $url }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z0-9_-]{1,32}$" .prefix) }}
{{- printf "- storage.nats.prefix is %q: write 1 to 32 letters, digits, _ and -, since streams and subjects begin with it.\n" .prefix }}
{{- end }}
{{- if eq (int .replicas) 2 }}
{{- print "- storage.nats.replicas is 2: set it to 3, or to 1 for a single server; two servers stop when one of them does.\n" }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.natsSecrets" -}}
{{- with .credentials }}
{{- if and .fileKey (or .user .passwordKey) }}
{{- print "- storage.nats.credentials has fileKey and user or passwordKey, but the gateway is one user: keep the file, or the user with its password.\n" }}
{{- else if and .user (not .passwordKey) }}
{{- printf "- storage.nats.credentials.user is %s, but passwordKey is empty: name the key of the Secret that holds the password.\n" .user }}
{{- else if and .passwordKey (not .user) }}
{{- print "- storage.nats.credentials.passwordKey is set, but user is empty: name the user whose password it is.\n" }}
{{- end }}
{{- if and (or .fileKey .user .passwordKey) (not .secretName) }}
{{- print "- storage.nats.credentials.secretName is empty: name the Secret that holds fileKey or passwordKey.\n" }}
{{- else if and .secretName (not (or .fileKey .user .passwordKey)) }}
{{- printf "- storage.nats.credentials.secretName is %s, but nothing of it would be read: name fileKey, or user and passwordKey.\n" .secretName }}
{{- end }}
{{- end }}
{{- with .tls }}
{{- if ne (empty .certKey) (empty .keyKey) }}
{{- print "- storage.nats.tls has one of certKey and keyKey: a certificate of the gateway is both or none.\n" }}
{{- end }}
{{- if and (or .caKey .certKey .keyKey) (not .secretName) }}
{{- print "- storage.nats.tls.secretName is empty: name the Secret that holds caKey, certKey and keyKey.\n" }}
{{- else if and .secretName (not (or .caKey .certKey .keyKey)) }}
{{- printf "- storage.nats.tls.secretName is %s, but nothing of it would be read: name caKey, or certKey and keyKey.\n" .secretName }}
{{- end }}
{{- end }}
{{- end }}
