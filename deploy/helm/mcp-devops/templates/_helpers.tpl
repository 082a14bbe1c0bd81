{{- define "mcp-devops.selector" -}}
app.kubernetes.io/name: mcp-devops
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "mcp-devops.labels" -}}
{{ include "mcp-devops.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "mcp-devops.account" -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- end }}
{{- define "mcp-devops.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}
{{- define "mcp-devops.database" -}}
- name: MCP_DEVOPS_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: url}}
{{- end }}
