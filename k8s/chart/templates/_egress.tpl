{{/* Egress rules that the policies of server and migration share. */}}
{{- define "chart.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
  {{- with .Values.networkPolicy.egress.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "chart.postgresEgress" -}}
- ports:
    - {protocol: TCP, port: {{ .Values.networkPolicy.egress.postgres.port }}}
  {{- with .Values.networkPolicy.egress.postgres.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
