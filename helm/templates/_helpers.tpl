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

{{- define "whatsapp-gateway.ownLabels" -}}
{{ include "whatsapp-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "whatsapp-gateway.labels" -}}
{{ include "whatsapp-gateway.ownLabels" . }}
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

{{/* The Secret with the app secrets, verify tokens and access tokens, and that of the gRPC port; nothing for plain text. */}}
{{- define "whatsapp-gateway.secretName" -}}
{{- if .Values.externalSecret.enabled }}{{ include "whatsapp-gateway.fullname" . }}{{ else }}{{ .Values.existingSecret }}{{ end }}
{{- end }}

{{- define "whatsapp-gateway.tlsSecretName" -}}
{{- if .Values.grpcTls.certificate.enabled }}{{ include "whatsapp-gateway.fullname" . }}-grpc-tls{{ else }}{{ .Values.grpcTls.secretName }}{{ end }}
{{- end }}

{{/* A digest names one image for ever, so it wins over the tag. */}}
{{- define "whatsapp-gateway.image" -}}
{{- $image := .Values.image }}
{{- with default $image.registry .Values.global.imageRegistry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- define "whatsapp-gateway.imagePullSecrets" -}}
{{- with concat (default list .Values.imagePullSecrets) (default list .Values.global.imagePullSecrets) -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
"true" if events and state are in NATS. Then the pods are those of a Deployment and have no volume, and during a roll-out
there are two even where one is asked for, so they know each other as peers.
*/}}
{{- define "whatsapp-gateway.isOnNats" -}}
{{- if eq .Values.storage.backend "nats" }}true{{ end }}
{{- end }}

{{/* "true" if there may be more than one pod. */}}
{{- define "whatsapp-gateway.isMany" -}}
{{- if and (eq .Values.mode "cluster") (or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1)) }}true{{ end }}
{{- end }}

{{/* The seconds that a pod takes to stop: the whole drain, and ten to write what is left and exit. */}}
{{- define "whatsapp-gateway.terminationGracePeriodSeconds" -}}
{{- $sum := 10000 }}
{{- range list .Values.config.shutdown.delay .Values.config.shutdown.drain }}
{{- $sum = add $sum (include "whatsapp-gateway.milliseconds" . | default "0" | atoi) }}
{{- end }}
{{- div (add $sum 999) 1000 }}
{{- end }}

{{- define "whatsapp-gateway.appProtocol" -}}
{{- $set := .Values.service.grpc.appProtocol }}
{{- if ne $set "auto" }}{{ $set }}{{ else if not (include "whatsapp-gateway.tlsSecretName" .) }}kubernetes.io/h2c{{ end }}
{{- end }}
