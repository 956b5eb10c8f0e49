{{/* "true" if `helm test` has a credential to call with. */}}
{{- define "whatsapp-gateway.hasSelftest" -}}
{{- if or .Values.selftest.tokenSecretName .Values.selftest.clientCertSecretName }}true{{ end }}
{{- end }}

{{/* Not the selector's labels, or the Services would send calls to the test. */}}
{{- define "whatsapp-gateway.selftestLabels" -}}
app.kubernetes.io/name: {{ include "whatsapp-gateway.name" . }}-selftest
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
