"""A command in WAT that reads frames, and does what the first letter of its shard says."""

# n: answers how many shards it has read, in four bytes; so does every letter that is not here.
# s: answers its seed. e: answers its shard. b: answers code 3. x: exits with code 7. q: exits with
# code 0. u: traps. l: loops. o: says that 16 MiB follow. t: answers twice. g: grows its memory by
# 52 MiB and answers as `n`. p: gives addresses outside its memory, and answers both errors.
COUNTS = """
(module
  (import "wasi_snapshot_preview1" "sock_recv"
    (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send"
    (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 64)
  (global $n (mut i32) (i32.const 0))
  (data (i32.const 256) "said on stdout")
  ;; a vector at 0, what a call did at 8 and 12, an answer at 64, a frame from 1024 on
  (func $read (param $at i32) (param $left i32) (result i32)
    (loop $more
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $left))
      (if (call $recv (i32.const 5) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8)
            (i32.const 12))
        (then (call $exit (i32.const 99))))
      (if (i32.eqz (i32.load (i32.const 8))) (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 8))))
      (br_if $more (local.get $left)))
    (i32.const 1))
  (func $put (param $at i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size))
    (if (call $send (i32.const 6) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8))
      (then (call $exit (i32.const 98)))))
  (func $answer (param $code i32) (param $size i32)
    (i32.store (i32.const 64) (local.get $code))
    (i32.store (i32.const 68) (local.get $size))
    (call $put (i32.const 64) (i32.const 8)))
  (func $one (param $letter i32) (param $size i32)
    (if (i32.eq (local.get $letter) (i32.const 115)) ;; s
      (then (call $answer (i32.const 0) (i32.const 8)) (call $put (i32.const 1028) (i32.const 8))
        (return)))
    (if (i32.eq (local.get $letter) (i32.const 101)) ;; e
      (then (call $answer (i32.const 0) (local.get $size))
        (call $put (i32.const 1036) (local.get $size)) (return)))
    (if (i32.eq (local.get $letter) (i32.const 98)) ;; b
      (then
        (i32.store (i32.const 0) (i32.const 256))
        (i32.store (i32.const 4) (i32.const 14))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $answer (i32.const 3) (i32.const 0)) (return)))
    (if (i32.eq (local.get $letter) (i32.const 120)) (then (call $exit (i32.const 7)))) ;; x
    (if (i32.eq (local.get $letter) (i32.const 113)) (then (call $exit (i32.const 0)))) ;; q
    (if (i32.eq (local.get $letter) (i32.const 117)) (then (unreachable))) ;; u
    (if (i32.eq (local.get $letter) (i32.const 108)) (then (loop $ever (br $ever)))) ;; l
    (if (i32.eq (local.get $letter) (i32.const 111)) ;; o
      (then (call $answer (i32.const 0) (i32.const 16777216)) (return)))
    (if (i32.eq (local.get $letter) (i32.const 116)) ;; t
      (then (call $answer (i32.const 0) (i32.const 0))))
    (if (i32.eq (local.get $letter) (i32.const 103)) ;; g
      (then (drop (memory.grow (i32.const 832)))))
    (i32.store (i32.const 80) (global.get $n))
    (if (i32.eq (local.get $letter) (i32.const 112)) ;; p
      (then
        (i32.store (i32.const 0) (i32.const -8))
        (i32.store (i32.const 4) (i32.const 64))
        (i32.store (i32.const 80)
          (call $send (i32.const 6) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8)))
        (i32.store16 (i32.const 82)
          (call $recv (i32.const 6) (i32.const -4) (i32.const 1) (i32.const 0) (i32.const 8)
            (i32.const 12)))))
    (call $answer (i32.const 0) (i32.const 4))
    (call $put (i32.const 80) (i32.const 4)))
  (func (export "_start")
    (block $end
      (loop $next
        (br_if $end (i32.eqz (call $read (i32.const 1024) (i32.const 4))))
        (br_if $end (i32.eqz (call $read (i32.const 1028)
          (i32.add (i32.const 8) (i32.load (i32.const 1024))))))
        (global.set $n (i32.add (global.get $n) (i32.const 1)))
        (call $one (i32.load8_u (i32.const 1036)) (i32.load (i32.const 1024)))
        (br $next)))))
"""
