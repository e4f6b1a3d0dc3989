// Plays golden vectors (a folder that accelsim.vectors wrote, +dir=DIR, its parameters.vh on the include path) into
// stationary_array.v and compares the sums at the bottom edge, cycle by cycle.
`timescale 1ns / 1ps
module bench_vectors_stationary;
    `include "parameters.vh"
    localparam MOVING_BITS = INPUTS_STAY != 0 ? WEIGHT_BITS : ACT_BITS;
    localparam MOVING_SIGNED = INPUTS_STAY != 0 ? WEIGHT_SIGNED : ACT_SIGNED;
    localparam STILL_BITS = INPUTS_STAY != 0 ? ACT_BITS : WEIGHT_BITS;
    localparam STILL_SIGNED = INPUTS_STAY != 0 ? ACT_SIGNED : WEIGHT_SIGNED;

    reg [ROWS*LANES*MOVING_BITS-1:0] left [0:CYCLES];
    reg [COLS*LANES*STILL_BITS-1:0] top [0:CYCLES];
    reg [ROWS-1:0] select [0:CYCLES], shift [0:CYCLES];
    reg load_bank [0:CYCLES];
    reg [COLS*PSUM_BITS-1:0] bottom [0:CYCLES];
    reg [COLS-1:0] bottom_valid [0:CYCLES];
    reg [8*512-1:0] dir, path;
    initial begin
        if (!$value$plusargs("dir=%s", dir)) $finish;
        $sformat(path, "%0s/left.memh", dir);
        $readmemh(path, left);
        $sformat(path, "%0s/top.memh", dir);
        $readmemh(path, top);
        $sformat(path, "%0s/select.memh", dir);
        $readmemh(path, select);
        $sformat(path, "%0s/shift.memh", dir);
        $readmemh(path, shift);
        $sformat(path, "%0s/load_bank.memh", dir);
        $readmemh(path, load_bank);
        $sformat(path, "%0s/bottom.memh", dir);
        $readmemh(path, bottom);
        $sformat(path, "%0s/bottom_valid.memh", dir);
        $readmemh(path, bottom_valid);
    end

    reg clk, reset;
    integer t, c, compared, wrong;
    wire [COLS*PSUM_BITS-1:0] seen;
    stationary_array #(
        .ROWS(ROWS), .COLS(COLS), .MOVING_BITS(MOVING_BITS), .MOVING_SIGNED(MOVING_SIGNED), .STILL_BITS(STILL_BITS),
        .STILL_SIGNED(STILL_SIGNED), .PSUM_BITS(PSUM_BITS), .PSUM_SATURATE(PSUM_SATURATE), .LANES(LANES),
        .DEPTH(DEPTH), .BANKS(BANKS)
    ) array (
        .clk(clk), .reset(reset), .left(left[t]), .select(select[t]), .shift(shift[t]), .load_bank(load_bank[t]),
        .top(top[t]), .bottom(seen), .overflow()
    );

    initial begin
        clk = 1'b0;
        reset = 1'b1;
        t = 0;
        compared = 0;
        wrong = 0;
    end
    always #1 clk = !clk;
    always @(posedge clk) begin
        reset <= 1'b0;
        if (!reset) begin
            for (c = 0; c < COLS; c = c + 1)
                if (bottom_valid[t][c] !== 1'b0) begin
                    compared = compared + 1;
                    if (seen[c*PSUM_BITS +: PSUM_BITS] !== bottom[t][c*PSUM_BITS +: PSUM_BITS]) wrong = wrong + 1;
                end
            t <= t + 1;
            if (t == CYCLES) begin
                $display("compared %0d wrong %0d", compared, wrong);
                $finish;
            end
        end
    end
endmodule
