{{/* A duration in the service's form (`250ms`, `5s`, `1m`, `2h`) in whole seconds,
rounded up. The schema refuses every other form. */}}
{{- define "chart.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "ms" -}}{{ div (add $number 999) 1000 }}
{{- else if eq $unit "s" -}}{{ $number }}
{{- else if eq $unit "m" -}}{{ mul $number 60 }}
{{- else if eq $unit "h" -}}{{ mul $number 3600 }}
{{- else -}}{{ fail (printf "%q is not a duration: write it like 250ms, 5s, 1m or 2h" .) }}
{{- end -}}
{{- end -}}

{{/* Time after which the kubelet kills the pod: the drain, the grace, the flush of
telemetry, and 5 s for closing the database and for a slow node. */}}
{{- define "chart.terminationGracePeriodSeconds" -}}
{{- $drain := include "chart.seconds" .Values.lifecycle.drainDelay | int64 -}}
{{- $grace := include "chart.seconds" .Values.lifecycle.gracePeriod | int64 -}}
{{- $flush := include "chart.seconds" .Values.lifecycle.flushTimeout | int64 -}}
{{- add $drain $grace $flush 5 -}}
{{- end -}}
