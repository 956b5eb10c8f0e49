{{/* The milliseconds of a duration such as "5 s" or "1 h 30 min"; nothing if it is none. */}}
{{- define "whatsapp-gateway.milliseconds" -}}
{{- $part := "[0-9]{1,9} ?(days?|h|min|ms|s)" }}
{{- if regexMatch (printf "^%s( %s)*$" $part $part) . }}
{{- $factors := dict "day" 86400000 "days" 86400000 "h" 3600000 "min" 60000 "s" 1000 "ms" 1 }}
{{- $sum := 0 }}
{{- $before := 86400001 }}
{{- range regexFindAll $part . -1 }}
{{- $factor := get $factors (regexFind "[a-z]+" .) }}
{{- $sum = add $sum (mul $factor (regexFind "[0-9]+" . | atoi)) }}
{{- /* Smaller units come after larger ones. */}}
{{- $before = ternary $factor 0 (lt $factor $before) }}
{{- end }}
{{- if $before }}{{ $sum }}{{ end }}
{{- end }}
{{- end }}

{{/* The bytes of a size such as 4096 or "8 GiB", or of a quantity such as "10Gi"; nothing if it is neither. */}}
{{- define "whatsapp-gateway.bytes" -}}
{{- $factors := dict
  "" 1 "b" 1 "kib" 1024 "mib" 1048576 "gib" 1073741824 "tib" 1099511627776 "kb" 1000 "mb" 1000000 "gb" 1000000000 "tb" 1000000000000
  "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624
  "m" 0.001 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "P" 1000000000000000
}}
{{- if not (kindIs "string" .) }}
{{- int64 . }}
{{- else if regexMatch "^[0-9]+(\\.[0-9]+)? ?([KMGTkmgt][iI]?)?[Bb]$" . }}
{{- $bytes := mulf (regexFind "^[0-9.]+" . | float64) (get $factors (regexFind "[A-Za-z]+$" . | lower)) }}
{{- /* Not a fraction of a byte. */}}
{{- if eq $bytes (floor $bytes) }}{{ int64 $bytes }}{{ end }}
{{- else if regexMatch "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$" . }}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $factors (regexFind "[A-Za-z]*$" .)) | int64 }}
{{- end }}
{{- end }}
