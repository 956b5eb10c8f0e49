{{- define "whatsapp-gateway.validate.grpcTls" -}}
{{- $tls := .Values.grpcTls }}
{{- $secret := include "whatsapp-gateway.tlsSecretName" . }}
{{- if and $tls.certificate.enabled $tls.secretName }}
{{- printf "- grpcTls.secretName is %s, but grpcTls.certificate.enabled is true and makes a Secret of its own: empty the one or set the other to false.\n" $tls.secretName }}
{{- end }}
{{- if and $tls.certificate.enabled (not $tls.certificate.issuerRef.name) }}
{{- print "- grpcTls.certificate.issuerRef.name is empty: set it to the name of cert-manager's issuer.\n" }}
{{- end }}
{{- if and $tls.clientCaKey (not $secret) }}
{{- print "- grpcTls.clientCaKey is set but grpcTls.secretName is empty: name the Secret that holds tls.crt, tls.key and this key.\n" }}
{{- end }}
{{- if and (eq $tls.clientAuth "required") (not $tls.clientCaKey) }}
{{- print "- grpcTls.clientAuth is required but grpcTls.clientCaKey is empty: name the key that holds the authorities of the clients.\n" }}
{{- end }}
{{- if and (include "whatsapp-gateway.hasSelftest" .) (eq $tls.clientAuth "required") (not .Values.selftest.clientCertSecretName) }}
{{- print "- selftest.tokenSecretName is set, but grpcTls.clientAuth is required and selftest.clientCertSecretName is empty: name a Secret with a client's tls.crt and tls.key, or empty selftest.tokenSecretName to have no test.\n" }}
{{- end }}
{{- if and .Values.selftest.clientCertSecretName (not $tls.clientCaKey) }}
{{- print "- selftest.clientCertSecretName is set, but no client certificates are asked for: set grpcTls.clientCaKey, or use selftest.tokenSecretName.\n" }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.routes" -}}
{{- $host := "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" }}
{{- with .Values.ingress }}
{{- if and .enabled (not .host) }}
{{- print "- ingress.enabled is true but ingress.host is empty: set it to the host name that Meta posts to.\n" }}
{{- else if and .host (not (regexMatch $host .host)) }}
{{- printf "- ingress.host is %q: write a host name alone, such as whatsapp.example.com.\n" .host }}
{{- end }}
{{- end }}
{{- range $route := list "httpRoute" "grpcRoute" }}
{{- with index $.Values $route }}
{{- if and .enabled (not .parentRefs) }}
{{- printf "- %s.enabled is true but %s.parentRefs is empty: name the Gateway, as in %s.parentRefs[0].name=public.\n" $route $route $route }}
{{- end }}
{{- range $i, $name := .hostnames }}
{{- if not (regexMatch $host (trimPrefix "*." $name)) }}
{{- printf "- %s.hostnames[%d] is %q: write a host name alone, such as whatsapp.example.com.\n" $route $i $name }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.grpcRoute.enabled (eq .Values.grpcTls.clientAuth "required") }}
{{- print "- grpcRoute.enabled is true but grpcTls.clientAuth is required: a Gateway ends the connections of clients and has none of their certificates. Set clientAuth to optional, or reach the Service without a Gateway.\n" }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.networkPolicy" -}}
{{- $policy := .Values.networkPolicy }}
{{- if $policy.enabled }}
{{- if not (or $policy.webhook.namespaces $policy.webhook.from) }}
{{- print "- networkPolicy.webhook names nobody, so no webhook would arrive: name the namespace of the ingress controller or Gateway in networkPolicy.webhook.namespaces.\n" }}
{{- end }}
{{- if and (or .Values.serviceMonitor.enabled .Values.podMonitor.enabled) (not (or $policy.metrics.namespaces $policy.metrics.from)) }}
{{- print "- networkPolicy.metrics names nobody, so the monitor would scrape nothing: name the namespace of Prometheus in networkPolicy.metrics.namespaces.\n" }}
{{- end }}
{{- if and .Values.grpcRoute.enabled (not (or $policy.grpc.namespaces $policy.grpc.from)) }}
{{- print "- networkPolicy.grpc names nobody but the release's namespace, so the GRPCRoute would reach nothing: name the namespace of the Gateway in networkPolicy.grpc.namespaces.\n" }}
{{- end }}
{{- $collector := dig "telemetry" "otlp_endpoint" "" .Values.config }}
{{- $isNamed := or $policy.otlp.namespaces $policy.otlp.to }}
{{- if and $collector (not $isNamed) }}
{{- printf "- networkPolicy.otlp names nobody, so no trace would reach %s: name the collector's namespace in networkPolicy.otlp.namespaces.\n" $collector }}
{{- else if and $isNamed (not $collector) }}
{{- print "- networkPolicy.otlp is set, but config.telemetry.otlp_endpoint is empty: set it, or empty networkPolicy.otlp.\n" }}
{{- end }}
{{- $isNatsNamed := or $policy.nats.namespaces $policy.nats.to }}
{{- if and (include "whatsapp-gateway.isOnNats" .) (not $isNatsNamed) }}
{{- print "- networkPolicy.nats names nobody, so no pod would reach NATS: name its namespace in networkPolicy.nats.namespaces.\n" }}
{{- else if and $isNatsNamed (not (include "whatsapp-gateway.isOnNats" .)) }}
{{- print "- networkPolicy.nats is set, but storage.backend is embedded: set that to nats, or empty networkPolicy.nats.\n" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.monitoring" -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- print "- serviceMonitor.enabled and podMonitor.enabled are both true, so everything would be counted twice: set one of them to false.\n" }}
{{- end }}
{{- if and (not (dig "telemetry" "metrics" true .Values.config)) (or .Values.serviceMonitor.enabled .Values.podMonitor.enabled .Values.prometheusRule.enabled .Values.dashboards.enabled) }}
{{- print "- config.telemetry.metrics is false, but serviceMonitor, podMonitor, prometheusRule or dashboards is enabled and needs metrics: set it to true.\n" }}
{{- end }}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" .Values.image.digest) }}
{{- printf "- image.digest is %q: write sha256: and 64 hexadecimal digits, or leave it empty for the tag.\n" .Values.image.digest }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.pod" -}}
{{- range .Values.extraEnv }}
{{- if eq .name "POD_IP" }}
{{- print "- extraEnv sets POD_IP, which is the chart's own: choose another name.\n" }}
{{- end }}
{{- if hasPrefix "WHATSAPP_" (upper .name) }}
{{- printf "- extraEnv sets %s, which nothing here would check or follow: set it under config, or in apps and wabas.\n" .name }}
{{- end }}
{{- end }}
{{- $volumes := list "config" "secrets" "grpc-tls" "data" "nats-credentials" "nats-tls" }}
{{- range .Values.extraVolumes }}
{{- if has .name $volumes }}
{{- printf "- extraVolumes names %s twice, or as the chart does (config, secrets, grpc-tls, data, nats-credentials, nats-tls): choose another name.\n" .name }}
{{- end }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- $containers := list "gateway" }}
{{- range concat (default list .Values.extraContainers) (default list .Values.extraInitContainers) }}
{{- if has .name $containers }}
{{- printf "- extraContainers or extraInitContainers name %s twice, or as the chart does (gateway): choose another name.\n" .name }}
{{- end }}
{{- $containers = append $containers .name }}
{{- end }}
{{- $own := set (include "whatsapp-gateway.ownLabels" . | fromYaml) "app.kubernetes.io/component" "" }}
{{- range $value := list "podLabels" "commonLabels" }}
{{- range $label, $_ := index $.Values $value }}
{{- if hasKey $own $label }}
{{- printf "- %s sets %s, which is the chart's own: remove it.\n" $value $label }}
{{- end }}
{{- end }}
{{- end }}
{{- $limit := dig "limits" "memory" "" .Values.resources }}
{{- $request := dig "requests" "memory" "" .Values.resources }}
{{- if and $limit $request (gt (include "whatsapp-gateway.bytes" $request | default "0" | int64) (include "whatsapp-gateway.bytes" $limit | default "0" | int64)) }}
{{- printf "- resources.requests.memory is %v and more than resources.limits.memory, %v: raise the limit.\n" $request $limit }}
{{- end }}
{{- $ranges := include "whatsapp-gateway.ranges" . | fromYaml }}
{{- $bodies := dig "webhook" "bodies_bytes_max" (index (get $ranges "webhook.bodies_bytes_max") 2) .Values.config }}
{{- if and $limit (lt (include "whatsapp-gateway.bytes" $limit | default "0" | int64) (add 67108864 (include "whatsapp-gateway.bytes" $bodies | default "0" | int64))) }}
{{- printf "- resources.limits.memory is %v, but webhooks may take config.webhook.bodies_bytes_max (%v) and all else 64 MiB: raise the one or lower the other.\n" $limit $bodies }}
{{- end }}
{{- end }}
