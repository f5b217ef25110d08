{{- define "rocmforge.name" -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "rocmforge.selector" -}}
app.kubernetes.io/name: rocmforge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rocmforge.labels" -}}
{{ include "rocmforge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "rocmforge.account" -}}
{{ .Values.serviceAccount.name | default (include "rocmforge.name" .) }}
{{- end }}

{{- define "rocmforge.image" -}}
{{ required "set image.repository to the image that you have pushed" .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What `rocmforge serve` is given. */}}
{{- define "rocmforge.model" -}}
{{- if eq .Values.model.source "storage" -}}
{{- $url := required "set model.storage.url to what `rocmforge push` printed" .Values.model.storage.url -}}
{{- if .Values.model.storage.follow }}{{ $url }}{{ else }}{{ $url | base | regexFind "^[^@]+" }}{{ end }}
{{- else if eq .Values.model.source "volume" -}}
/mnt/models{{ with .Values.model.volume.path }}/{{ trimPrefix "/" . }}{{ end }}
{{- else -}}
/mnt/models
{{- end -}}
{{- end }}

{{/* Variables of the server: the chart's, then those of `settings`, which win. */}}
{{- define "rocmforge.variables" -}}
{{- $own := dict "HOST" "0.0.0.0" "PORT" (toString .Values.port) "HOME" "/var/lib/rocmforge" "DRAIN_TIMEOUT" (toString .Values.drain.seconds) -}}
{{- if .Values.keys.secret }}{{ $_ := set $own "KEY_FILE" "/etc/rocmforge/keys.toml" }}
{{- else if .Values.insecure }}{{ $_ := set $own "INSECURE" "true" }}
{{- else }}{{ fail "everybody who reaches the Service could use the model: set keys.secret, or insecure to true" }}
{{- end -}}
{{- if .Values.gpu.count }}{{ $_ := set $own "DEVICE" "rocm" }}{{ end -}}
{{- range $name, $value := merge (deepCopy .Values.settings) $own }}
- name: ROCMFORGE_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- if and (eq .Values.model.source "storage") .Values.model.storage.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ .Values.model.storage.endpoint | quote }}
{{- end }}
{{- end }}

{{/* What both containers of a pod have in common. */}}
{{- define "rocmforge.container" -}}
image: {{ include "rocmforge.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env: {{- include "rocmforge.variables" . | trim | nindent 2 }}
{{- if and (eq .Values.model.source "storage") .Values.model.storage.secret }}
envFrom:
  - secretRef:
      name: {{ .Values.model.storage.secret }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: home
    mountPath: /var/lib/rocmforge
  - name: tmp
    mountPath: /tmp
  {{- if ne .Values.model.source "storage" }}
  - name: model
    mountPath: /mnt/models
    readOnly: true
  {{- end }}
  {{- if .Values.keys.secret }}
  - name: keys
    mountPath: /etc/rocmforge
    readOnly: true
  {{- end }}
{{- end }}
