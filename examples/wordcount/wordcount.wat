;; Counts words (abi wasi): text on stdin, one JSON object {"word": count, ...} on stdout.
;;
;; A word is a longest run of the bytes A-Z a-z 0-9 _, with its case. Words may be of any
;; length and may lie across two reads. The words and a hash table live in linear memory,
;; which grows as needed; without memory the command ends with exit code 1.
;;
;; Memory:      0  an iovec: address, length
;;              8  the number of bytes read or written
;;           1024  input buffer, 64 KiB
;;          66560  output buffer, 64 KiB
;;         132096  the heap: the first hash table, then words and larger tables
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (memory (export "memory") 4)
  (data (i32.const 16) "wordcount: out of memory\n")
  (data (i32.const 48) "wordcount: can't read or write\n")

  ;; A table entry has 16 bytes: address (0: free), length, hash, count.
  (global $table (mut i32) (i32.const 132096))
  (global $capacity (mut i32) (i32.const 4096))
  (global $used (mut i32) (i32.const 0))

  ;; The first free byte of the heap, and the end of the memory.
  (global $top (mut i32) (i32.const 197632))
  (global $limit (mut i32) (i32.const 262144))

  ;; The current word lies from $word to $top; 0 between words. Its hash is FNV-1a.
  (global $word (mut i32) (i32.const 0))
  (global $hash (mut i32) (i32.const 0))

  (global $out (mut i32) (i32.const 0))

  (func (export "_start")
    (local $at i32) (local $end i32)
    (block $eof
      (loop $read
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 65536))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $fail (i32.const 48) (i32.const 31))))
        (br_if $eof (i32.eqz (i32.load (i32.const 8))))
        (local.set $at (i32.const 1024))
        (local.set $end (i32.add (i32.const 1024) (i32.load (i32.const 8))))
        (loop $byte
          (call $take (i32.load8_u (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $byte (i32.lt_u (local.get $at) (local.get $end))))
        (br $read)))
    (call $end_word)
    (call $print))

  ;; Adds a byte to the current word, or ends it.
  (func $take (param $byte i32)
    (if (i32.eqz (call $in_word (local.get $byte)))
      (then (call $end_word) (return)))
    (if (i32.eqz (global.get $word))
      (then
        (global.set $word (global.get $top))
        (global.set $hash (i32.const 0x811c9dc5))))
    (if (i32.ge_u (global.get $top) (global.get $limit))
      (then (call $reserve (i32.const 1))))
    (i32.store8 (global.get $top) (local.get $byte))
    (global.set $top (i32.add (global.get $top) (i32.const 1)))
    (global.set $hash
      (i32.mul (i32.xor (global.get $hash) (local.get $byte)) (i32.const 0x01000193))))

  (func $in_word (param $byte i32) (result i32)
    (i32.or
      (i32.or
        (i32.lt_u
          (i32.sub (i32.or (local.get $byte) (i32.const 32)) (i32.const 97))
          (i32.const 26))
        (i32.lt_u (i32.sub (local.get $byte) (i32.const 48)) (i32.const 10)))
      (i32.eq (local.get $byte) (i32.const 95))))

  ;; Counts the current word, if there is one; a known word gives its bytes back.
  (func $end_word
    (local $entry i32) (local $length i32)
    (if (i32.eqz (global.get $word)) (then (return)))
    (local.set $length (i32.sub (global.get $top) (global.get $word)))
    (local.set $entry (call $find (local.get $length)))
    (if (i32.load (local.get $entry))
      (then (global.set $top (global.get $word)))
      (else
        (i32.store (local.get $entry) (global.get $word))
        (i32.store offset=4 (local.get $entry) (local.get $length))
        (i32.store offset=8 (local.get $entry) (global.get $hash))
        (global.set $used (i32.add (global.get $used) (i32.const 1)))))
    (i32.store offset=12 (local.get $entry)
      (i32.add (i32.load offset=12 (local.get $entry)) (i32.const 1)))
    (global.set $word (i32.const 0))
    ;; At most half of the entries are used, so that a search is short and always ends.
    (if (i32.gt_u (i32.shl (global.get $used) (i32.const 1)) (global.get $capacity))
      (then (call $grow_table))))

  ;; Returns the entry of the current word, or the free one where it belongs.
  (func $find (param $length i32) (result i32)
    (local $slot i32) (local $entry i32)
    (local.set $slot (global.get $hash))
    (loop $next
      (local.set $slot
        (i32.and (local.get $slot) (i32.sub (global.get $capacity) (i32.const 1))))
      (local.set $entry
        (i32.add (global.get $table) (i32.shl (local.get $slot) (i32.const 4))))
      (if (i32.eqz (i32.load (local.get $entry))) (then (return (local.get $entry))))
      (if (i32.eq (i32.load offset=8 (local.get $entry)) (global.get $hash))
        (then
          (if (i32.eq (i32.load offset=4 (local.get $entry)) (local.get $length))
            (then
              (if (call $same
                    (i32.load (local.get $entry)) (global.get $word) (local.get $length))
                (then (return (local.get $entry))))))))
      (local.set $slot (i32.add (local.get $slot) (i32.const 1)))
      (br $next))
    (unreachable))

  (func $same (param $a i32) (param $b i32) (param $length i32) (result i32)
    (loop $next
      (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
      (if (i32.ne (i32.load8_u (local.get $a)) (i32.load8_u (local.get $b)))
        (then (return (i32.const 0))))
      (local.set $a (i32.add (local.get $a) (i32.const 1)))
      (local.set $b (i32.add (local.get $b) (i32.const 1)))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br $next))
    (unreachable))

  ;; Moves the entries into a table twice as large at the top of the heap. Only called between
  ;; words. The old table stays behind: all old tables together are smaller than the new one.
  (func $grow_table
    (local $old i32) (local $old_end i32) (local $entry i32) (local $slot i32)
    (local.set $old (global.get $table))
    (local.set $old_end
      (i32.add (local.get $old) (i32.shl (global.get $capacity) (i32.const 4))))
    (global.set $capacity (i32.shl (global.get $capacity) (i32.const 1)))
    (global.set $top (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (call $reserve (i32.shl (global.get $capacity) (i32.const 4)))
    (global.set $table (global.get $top))
    (global.set $top
      (i32.add (global.get $top) (i32.shl (global.get $capacity) (i32.const 4))))
    ;; The bytes of a given-back word may lie here.
    (memory.fill
      (global.get $table) (i32.const 0) (i32.shl (global.get $capacity) (i32.const 4)))
    (loop $next
      (if (i32.load (local.get $old))
        (then
          (local.set $slot (i32.load offset=8 (local.get $old)))
          (loop $probe
            (local.set $slot
              (i32.and (local.get $slot) (i32.sub (global.get $capacity) (i32.const 1))))
            (local.set $entry
              (i32.add (global.get $table) (i32.shl (local.get $slot) (i32.const 4))))
            (local.set $slot (i32.add (local.get $slot) (i32.const 1)))
            (br_if $probe (i32.load (local.get $entry))))
          (memory.copy (local.get $entry) (local.get $old) (i32.const 16))))
      (local.set $old (i32.add (local.get $old) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $old) (local.get $old_end)))))

  ;; Makes sure that this many bytes at the top of the heap exist.
  (func $reserve (param $bytes i32)
    (local $pages i64)
    (local.set $pages
      (i64.sub
        (i64.shr_u
          (i64.add
            (i64.add
              (i64.extend_i32_u (global.get $top)) (i64.extend_i32_u (local.get $bytes)))
            (i64.const 65535))
          (i64.const 16))
        (i64.extend_i32_u (memory.size))))
    (if (i64.le_s (local.get $pages) (i64.const 0)) (then (return)))
    (if (i32.eq (memory.grow (i32.wrap_i64 (local.get $pages))) (i32.const -1))
      (then (call $fail (i32.const 16) (i32.const 25))))
    (global.set $limit (i32.shl (memory.size) (i32.const 16))))

  (func $print
    (local $entry i32) (local $end i32) (local $first i32)
    (local.set $first (i32.const 1))
    (local.set $entry (global.get $table))
    (local.set $end
      (i32.add (local.get $entry) (i32.shl (global.get $capacity) (i32.const 4))))
    (call $put (i32.const 123))
    (loop $next
      (if (i32.load (local.get $entry))
        (then
          (if (i32.eqz (local.get $first))
            (then (call $put (i32.const 44)) (call $put (i32.const 32))))
          (local.set $first (i32.const 0))
          (call $put (i32.const 34))
          (call $put_bytes
            (i32.load (local.get $entry)) (i32.load offset=4 (local.get $entry)))
          (call $put (i32.const 34))
          (call $put (i32.const 58))
          (call $put (i32.const 32))
          (call $put_number (i32.load offset=12 (local.get $entry)))))
      (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $entry) (local.get $end))))
    (call $put (i32.const 125))
    (call $put (i32.const 10))
    (call $flush))

  (func $put_bytes (param $at i32) (param $length i32)
    (loop $next
      (if (i32.eqz (local.get $length)) (then (return)))
      (call $put (i32.load8_u (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br $next)))

  (func $put_number (param $value i32)
    (if (i32.ge_u (local.get $value) (i32.const 10))
      (then (call $put_number (i32.div_u (local.get $value) (i32.const 10)))))
    (call $put (i32.add (i32.const 48) (i32.rem_u (local.get $value) (i32.const 10)))))

  (func $put (param $byte i32)
    (i32.store8 offset=66560 (global.get $out) (local.get $byte))
    (global.set $out (i32.add (global.get $out) (i32.const 1)))
    (if (i32.eq (global.get $out) (i32.const 65536)) (then (call $flush))))

  ;; A write may take only a part, so it is repeated until the buffer is empty.
  (func $flush
    (local $at i32)
    (local.set $at (i32.const 66560))
    (loop $next
      (if (i32.eqz (global.get $out)) (then (return)))
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (global.get $out))
      (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $fail (i32.const 48) (i32.const 31))))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (global.set $out (i32.sub (global.get $out) (i32.load (i32.const 8))))
      (br $next)))

  ;; Writes a message to stderr and ends the command with exit code 1.
  (func $fail (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $proc_exit (i32.const 1))
    (unreachable)))
