{{/*
What a schema cannot say, or could only say without naming the remedy. Every problem is reported at once; each is a line
that names the value and the remedy.
*/}}
{{- define "whatsapp-gateway.validate" -}}
{{- $problems := "" }}
{{- range list "mode" "storage" "secrets" "accounts" "callers" "jwt" "config" "grpcTls" "routes" "networkPolicy" "monitoring" "pod" }}
{{- $problems = print $problems (include (printf "whatsapp-gateway.validate.%s" .) $) }}
{{- end }}
{{- with $problems }}
{{- fail (print "\n\n" .) }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.mode" -}}
{{- if eq .Values.mode "single" }}
{{- if ne (int .Values.replicaCount) 1 }}
{{- printf "- replicaCount is %v, but mode single has exactly one pod: set replicaCount to 1, or mode to cluster, which needs storage.backend nats.\n" .Values.replicaCount }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- print "- autoscaling.enabled is true, but mode single has exactly one pod: set it to false.\n" }}
{{- end }}
{{- if .Values.topologySpreadConstraints }}
{{- print "- topologySpreadConstraints is set, but mode single has one pod, and nothing to spread: remove it, or choose a node by nodeSelector or affinity.\n" }}
{{- end }}
{{- else if not (or .Values.autoscaling.enabled .Values.replicaCount) }}
{{- print "- replicaCount is 0, so nothing would run: set it to 1 or more.\n" }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if .enabled }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- printf "- autoscaling.minReplicas is %v and greater than autoscaling.maxReplicas, %v: lower it, or raise the other.\n" .minReplicas .maxReplicas }}
{{- end }}
{{- if not (or .targetCPUUtilizationPercentage .metrics) }}
{{- print "- autoscaling.enabled is true, but nothing is measured: set autoscaling.targetCPUUtilizationPercentage or autoscaling.metrics.\n" }}
{{- end }}
{{- if and .targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" $.Values.resources)) }}
{{- print "- autoscaling.targetCPUUtilizationPercentage is a share of resources.requests.cpu, which is empty: set it.\n" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.secrets" -}}
{{- $external := .Values.externalSecret }}
{{- if $external.enabled }}
{{- if .Values.existingSecret }}
{{- printf "- existingSecret is %s, but externalSecret.enabled is true and makes a Secret of its own: empty the one or set the other to false.\n" .Values.existingSecret }}
{{- end }}
{{- if not $external.secretStoreRef.name }}
{{- print "- externalSecret.secretStoreRef.name is empty: set it to the name of the store that has the secrets.\n" }}
{{- end }}
{{- if not (or $external.data $external.dataFrom) }}
{{- print "- externalSecret.enabled is true, but externalSecret.data and externalSecret.dataFrom are empty: name the keys in one of them.\n" }}
{{- end }}
{{- if and $external.data (not $external.dataFrom) }}
{{- $keys := list }}
{{- range $external.data }}
{{- $keys = append $keys .secretKey }}
{{- end }}
{{- range include "whatsapp-gateway.secretKeys" . | splitList "\n" | compact | uniq }}
{{- if not (has . $keys) }}
{{- printf "- externalSecret.data has no secretKey %s, which the gateway reads: add it, or name another key in apps, wabas or callers.\n" . }}
{{- end }}
{{- end }}
{{- end }}
{{- else if not .Values.existingSecret }}
{{- print "- existingSecret is empty: create a Secret with the keys app-secret, verify-token and access-token, and set existingSecret to its name; or enable externalSecret.\n" }}
{{- end }}
{{- end }}

{{/* Every key of the Secret that the configuration names, one on each line. */}}
{{- define "whatsapp-gateway.secretKeys" -}}
{{- range .Values.apps }}
{{- range concat (default (list "app-secret") .secretKeys) (list (default "verify-token" .verifyTokenKey)) }}
{{- print . "\n" }}
{{- end }}
{{- end }}
{{- range .Values.wabas }}
{{- print (default "access-token" .accessTokenKey) "\n" }}
{{- end }}
{{- range .Values.callers }}
{{- print (default "" .tokenSha256Key) "\n" }}
{{- end }}
{{- range .Values.jwtIssuers }}
{{- print (default "" .jwksKey) "\n" }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.config" -}}
{{- range $path, $range := include "whatsapp-gateway.ranges" . | fromYaml }}
{{- $key := splitList "." $path }}
{{- $value := dig (first $key) (last $key) nil $.Values.config }}
{{- if not (kindIs "invalid" $value) }}
{{- $unit := ternary "whatsapp-gateway.bytes" "whatsapp-gateway.milliseconds" (hasSuffix "B" (first $range)) }}
{{- $form := ternary "size: write bytes, or a number and a unit such as 512 KiB or 8 GiB" "duration: write whole numbers with their units, such as 250 ms, 20 s or 1 h 30 min" (hasSuffix "B" (first $range)) }}
{{- $number := include $unit $value }}
{{- if not $number }}
{{- printf "- config.%s is %q, which is no %s.\n" $path (toString $value) $form }}
{{- else }}
{{- $least := include $unit (index $range 0) | int64 }}
{{- $greatest := include $unit (index $range 1) | default "1125899906842624" | int64 }}
{{- if or (lt (int64 $number) $least) (gt (int64 $number) $greatest) }}
{{- printf "- config.%s is %q: write at least %s%s.\n" $path (toString $value) (index $range 0) (ternary (printf " and at most %s" (index $range 1)) "" (ne (index $range 1) "")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^/[-A-Za-z0-9._~/]*$" .Values.config.webhook.path) }}
{{- printf "- config.webhook.path is %q: begin it with / and use only letters, digits, /, -, ., _ and ~.\n" .Values.config.webhook.path }}
{{- end }}
{{- range $i, $host := dig "cloud_api" "media_hosts" list .Values.config }}
{{- if not (regexMatch "^[.]?[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?$" $host) }}
{{- printf "- config.cloud_api.media_hosts[%d] is %q: write a host, perhaps with a port, or .example.com for all below it.\n" $i $host }}
{{- end }}
{{- end }}
{{- $level := default "info" (dig "telemetry" "log_level" "info" .Values.config) }}
{{- if not (regexMatch "^([A-Za-z0-9_:.-]+=)?(error|warn|info|debug|trace|off)(,([A-Za-z0-9_:.-]+=)?(error|warn|info|debug|trace|off))*$" $level) }}
{{- printf "- config.telemetry.log_level is %q: write a level (error, warn, info, debug, trace), or levels per target such as info,h2=debug.\n" $level }}
{{- end }}
{{- if not (include "whatsapp-gateway.isOnNats" .) }}
{{- include "whatsapp-gateway.validate.room" . }}
{{- end }}
{{- end }}

{{/* The log and what must stay free beside it fit the volume. */}}
{{- define "whatsapp-gateway.validate.room" -}}
{{- $ranges := include "whatsapp-gateway.ranges" . | fromYaml }}
{{- $needed := 0 }}
{{- $words := list }}
{{- range list "size_max" "free_min" }}
{{- $size := dig "storage" . (index (get $ranges (printf "storage.%s" .)) 2) $.Values.config }}
{{- $needed = add $needed (include "whatsapp-gateway.bytes" $size | default "0" | int64) }}
{{- $words = append $words (printf "config.storage.%s (%v)" . $size) }}
{{- end }}
{{- $room := include "whatsapp-gateway.bytes" .Values.persistence.size | default "0" | int64 }}
{{- if and (not .Values.persistence.existingClaim) (gt $needed $room) }}
{{- printf "- persistence.size is %s, but %s need more: enlarge it, or lower config.storage.size_max.\n" .Values.persistence.size (join " and " $words) }}
{{- end }}
{{- end }}
