{{- define "whatsapp-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 49 | trimSuffix "-" }}
{{- end }}

{{/*
The name of every object. At most 49 characters, since the longest suffix, "-grpc-headless", makes it 63 and
Kubernetes adds a hash to the name of a StatefulSet in a label.
*/}}
{{- define "whatsapp-gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 49 | trimSuffix "-" }}
{{- else }}
{{- $name := include "whatsapp-gateway.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 49 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 49 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What never changes for a release: selectors and the claim template are immutable. */}}
{{- define "whatsapp-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "whatsapp-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "whatsapp-gateway.labels" -}}
{{ include "whatsapp-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "whatsapp-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A digest names one image for ever, so it wins over the tag. */}}
{{- define "whatsapp-gateway.image" -}}
{{- $image := .Values.image }}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{/* The seconds of a duration such as "5 s" or "2 min"; the schema allows no other form where this is used. */}}
{{- define "whatsapp-gateway.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int }}
{{- if hasSuffix "min" . }}{{ mul 60 $number }}{{ else }}{{ $number }}{{ end }}
{{- end }}

{{/* Long enough for the whole drain, with ten seconds to write what is left and exit. */}}
{{- define "whatsapp-gateway.terminationGracePeriodSeconds" -}}
{{- $delay := include "whatsapp-gateway.seconds" .Values.config.shutdown.delay | int }}
{{- $drain := include "whatsapp-gateway.seconds" .Values.config.shutdown.drain | int }}
{{- add $delay $drain 10 }}
{{- end }}
