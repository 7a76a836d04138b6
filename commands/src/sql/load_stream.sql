select * from log.load_stream($1, $2, $3, $4)
