{{/* The pod, of a StatefulSet or a Deployment. */}}
{{- define "whatsapp-gateway.podTemplate" -}}
metadata:
  labels:
    {{- include "whatsapp-gateway.selectorLabels" . | nindent 4 }}
    {{- with merge (dict) (default dict .Values.podLabels) (default dict .Values.commonLabels) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration starts the pod anew. Changed secrets are read again without that.
    checksum/config: {{ include "whatsapp-gateway.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "whatsapp-gateway.serviceAccountName" . }}
  automountServiceAccountToken: false
  # Their variables would be mistaken for settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "whatsapp-gateway.terminationGracePeriodSeconds" . }}
  {{- with include "whatsapp-gateway.imagePullSecrets" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.mode "cluster" }}
  topologySpreadConstraints:
    {{- include "whatsapp-gateway.topologySpreadConstraints" . | nindent 4 }}
  {{- end }}
  {{- with .Values.extraPodSpec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "whatsapp-gateway.podSecurityContext" . | nindent 4 }}
  {{- with .Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "whatsapp-gateway.container" . | nindent 4 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "whatsapp-gateway.fullname" . }}
    - name: secrets
      secret:
        secretName: {{ include "whatsapp-gateway.secretName" . }}
        # 0440: read by the group, which is the pod's fsGroup.
        defaultMode: 288
    {{- with include "whatsapp-gateway.tlsSecretName" . }}
    - name: grpc-tls
      secret:
        secretName: {{ . }}
        defaultMode: 288
    {{- end }}
    {{- if include "whatsapp-gateway.isOnNats" . }}
    {{- with .Values.storage.nats.credentials.secretName }}
    - name: nats-credentials
      secret:
        secretName: {{ . }}
        defaultMode: 288
    {{- end }}
    {{- with .Values.storage.nats.tls.secretName }}
    - name: nats-tls
      secret:
        secretName: {{ . }}
        defaultMode: 288
    {{- end }}
    {{- else }}
    {{- with .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ . }}
    {{- end }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "whatsapp-gateway.container" -}}
- name: gateway
  image: {{ include "whatsapp-gateway.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - serve
    - --config
    - {{ include "whatsapp-gateway.configDir" . }}/config.toml
  {{- with include "whatsapp-gateway.env" . | trim }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: grpc
      containerPort: 50051
    - name: webhook
      containerPort: 8080
    - name: admin
      containerPort: 9090
    {{- if include "whatsapp-gateway.isOnNats" . }}
    - name: peers
      containerPort: {{ .Values.peers.port }}
    {{- end }}
  startupProbe:
    httpGet:
      path: /livez
      port: admin
    {{- toYaml .Values.probes.startup | nindent 4 }}
  livenessProbe:
    httpGet:
      path: /livez
      port: admin
    {{- toYaml .Values.probes.liveness | nindent 4 }}
  readinessProbe:
    httpGet:
      path: /readyz
      port: admin
    {{- toYaml .Values.probes.readiness | nindent 4 }}
  securityContext:
    {{- include "whatsapp-gateway.containerSecurityContext" . | nindent 4 }}
  {{- with .Values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: config
      mountPath: {{ include "whatsapp-gateway.configDir" . }}
      readOnly: true
    # The whole directory: a subPath would never see a rotation.
    - name: secrets
      mountPath: {{ include "whatsapp-gateway.secretsDir" . }}
      readOnly: true
    {{- if include "whatsapp-gateway.tlsSecretName" . }}
    - name: grpc-tls
      mountPath: {{ include "whatsapp-gateway.tlsDir" . }}
      readOnly: true
    {{- end }}
    {{- if include "whatsapp-gateway.isOnNats" . }}
    {{- if .Values.storage.nats.credentials.secretName }}
    - name: nats-credentials
      mountPath: {{ include "whatsapp-gateway.natsCredentialsDir" . }}
      readOnly: true
    {{- end }}
    {{- if .Values.storage.nats.tls.secretName }}
    - name: nats-tls
      mountPath: {{ include "whatsapp-gateway.natsTlsDir" . }}
      readOnly: true
    {{- end }}
    {{- else }}
    - name: data
      mountPath: {{ include "whatsapp-gateway.dataDir" . }}
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "whatsapp-gateway.env" -}}
{{- if include "whatsapp-gateway.isOnNats" . }}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
# Where the other pods reach this one.
- name: WHATSAPP_GATEWAY__PEERS__ADVERTISE
  value: "$(POD_IP):{{ .Values.peers.port }}"
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the restricted pod security standard asks for. */}}
{{- define "whatsapp-gateway.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key, $id := .Values.podSecurity }}
{{- if not (kindIs "invalid" $id) }}
{{ $key }}: {{ int64 $id }}
{{- end }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "whatsapp-gateway.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}

{{/* The hash keeps pods of an older revision out of the count while a new one rolls out. */}}
{{- define "whatsapp-gateway.topologySpreadConstraints" -}}
{{- $constraints := .Values.topologySpreadConstraints }}
{{- if not $constraints }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- $one := dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash") }}
{{- $constraints = append $constraints $one }}
{{- end }}
{{- end }}
{{- $selector := dict "matchLabels" (include "whatsapp-gateway.selectorLabels" . | fromYaml) }}
{{- range $constraints }}
- {{ merge (dict "labelSelector" $selector) . | toYaml | indent 2 | trim }}
{{- end }}
{{- end }}
